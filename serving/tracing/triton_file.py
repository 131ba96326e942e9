"""Traces as Triton writes them: a JSON list of what happened, an object for each event."""

import json
from typing import IO, Any

from serving.dtypes import Datatype
from serving.errors import ServingError
from serving.tracing.settings import TIMESTAMPS, TraceSettings
from serving.tracing.trace import Trace
from serving.types import Tensor


class TritonFile:
    """Writes to `path`, or to `path.0`, `path.1`, … where so many traces shall make a file.

    Traces are written as they come; the list is complete when the file is closed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._traces = 0
        self._index = 0
        try:
            # Found out at start rather than at the first trace.
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise ServingError(f"cannot write traces to {path}: {error.strerror}") from error

    def export(self, trace: Trace, settings: TraceSettings) -> None:
        """Add the trace to the file at hand; raises OSError."""
        name = f"{self._path}.{self._index}" if settings.log_frequency else self._path
        if self._file is not None and self._file.name != name:
            self.close()
        if self._file is None:
            self._file = open(name, "w", encoding="utf-8")  # noqa: SIM115  # closed by `close`
            self._file.write("[")
        entries = entries_of(trace, TIMESTAMPS in settings.levels)
        self._file.write("," * bool(self._traces) + ",".join(map(json.dumps, entries)))
        self._traces += 1
        if settings.log_frequency and self._traces >= settings.log_frequency:
            self.close()
            self._index += 1

    def close(self) -> None:
        """Complete the file at hand."""
        if self._file is not None:
            file, self._file, self._traces = self._file, None, 0
            with file:
                file.write("]")


def entries_of(trace: Trace, has_timestamps: bool) -> list[dict[str, Any]]:
    """The objects that make up a trace: first what it is of, then its events, then its tensors."""
    about: dict[str, Any] = {"id": trace.id, "model_name": trace.model}
    if trace.version:
        about["model_version"] = int(trace.version)
    if trace.request_id:
        about["request_id"] = trace.request_id
    events = sorted(trace.events, key=lambda event: event[1]) if has_timestamps else []
    return [
        about,
        *({"id": trace.id, "timestamps": [{"name": name, "ns": ns}]} for name, ns in events),
        *(
            {"id": trace.id, "activity": activity, "tensor": _described(tensor)}
            for activity, tensor in trace.tensors
        ),
    ]


def _described(tensor: Tensor) -> dict[str, str]:
    values = tensor.array.reshape(-1).tolist()
    if tensor.datatype is Datatype.BYTES:
        texts = [json.dumps(value.decode(errors="replace")) for value in values]
    elif tensor.datatype is Datatype.BOOL:
        texts = [str(int(value)) for value in values]
    else:
        texts = list(map(repr, values))
    return {
        "name": tensor.name,
        "data": ",".join(texts),
        "shape": ",".join(map(str, tensor.array.shape)),
        "dtype": tensor.datatype.wire,
    }
