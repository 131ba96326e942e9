"""The record of one request: what happened when, and the tensors if they are wanted."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from serving.types import InferenceRequest, InferenceResponse, Tensor

_QUEUE_START: Final = "QUEUE_START"
_NUMBER: Final = re.compile("[0-9]{1,19}")


class Trace:
    """Filled in by whoever carries the request; `finish` hands it over, once.

    `events` are names with monotonic nanoseconds; `tensors` the activity of which each was part.
    `context` are the headers or metadata that the request came with.
    """

    def __init__(
        self,
        identifier: int,
        model: str,
        context: Mapping[str, str],
        has_tensors: bool,
        export: "Callable[[Trace], object]",
    ) -> None:
        self.id = identifier
        self.model = model
        self.version = ""
        self.request_id = ""
        self.error = ""
        self.context = context
        self.events: list[tuple[str, int]] = []
        self.tensors: list[tuple[str, Tensor]] = []
        self._has_tensors = has_tensors
        self._export: Callable[[Trace], object] | None = export

    def mark(self, event: str) -> None:
        """Something happens now."""
        self.events.append((event, time.monotonic_ns()))

    def asked(self, request: InferenceRequest) -> None:
        """The engine is given the request."""
        self.request_id = request.id
        if _NUMBER.fullmatch(request.version):  # until an answer tells which it was
            self.version = request.version
        self.mark("REQUEST_START")
        self._record("TENSOR_QUEUE_INPUT", request.inputs)

    def answered(self, response: InferenceResponse) -> None:
        """The engine has given a response."""
        self.version = response.version
        timing = response.timing
        if timing and timing.queued_at:
            at = timing.queued_at
            self.events.append((_QUEUE_START, at))
            for event, duration in (
                ("COMPUTE_START", timing.queue),
                ("COMPUTE_INPUT_END", timing.compute_input),
                ("COMPUTE_OUTPUT_START", timing.compute_infer),
                ("COMPUTE_END", timing.compute_output),
            ):
                at += duration
                self.events.append((event, at))
        self.mark("INFER_RESPONSE_COMPLETE")
        self._record("TENSOR_BACKEND_OUTPUT", response.outputs)

    def ended(self, error: str = "") -> None:
        """The engine has nothing more to say to the request but, maybe, what went wrong."""
        self.error = error
        self.mark("REQUEST_END")

    def finish(self) -> None:
        """Nothing more will happen."""
        if self._export is not None:
            export, self._export = self._export, None
            export(self)

    def _record(self, activity: str, tensors: Sequence[Tensor]) -> None:
        if self._has_tensors:
            self.tensors += [(activity, tensor) for tensor in tensors]
