"""Traces as Triton writes them: a JSON list of what happened, an object for each event."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any, Final

from serving.dtypes import Datatype
from serving.errors import ServingError
from serving.tracing.settings import TIMESTAMPS, TraceSettings
from serving.tracing.trace import Trace
from serving.types import Tensor

# The version of a request that asked for none and was not answered, as Triton's configurations
# write it. Triton's own reader of traces wants one of each.
_ANY: Final = -1


class TritonFile:
    """Writes to `path`, or to `path.0`, `path.1`, … where so many traces shall make a file.

    Traces are written as they come; a list is complete when its file is full, or at `close`. Models
    may differ in how many make a file, so that both kinds may be under way.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._whole: _List | None = None
        self._part: _List | None = None
        self._index = 0
        try:
            # Found out at start rather than at the first trace.
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise ServingError(f"cannot write traces to {path}: {error.strerror}") from error

    def export(self, trace: Trace, settings: TraceSettings) -> None:
        """Add the trace to the file at hand; raises OSError."""
        entries = entries_of(trace, TIMESTAMPS in settings.levels)
        if not settings.log_frequency:
            self._whole = self._whole or _List(self._path)
            self._whole.add(entries)
            return
        part = self._part = self._part or _List(f"{self._path}.{self._index}")
        part.add(entries)
        if part.traces >= settings.log_frequency:
            self._part = None
            self._index += 1
            part.close()

    def close(self) -> None:
        """Complete the files at hand; raises OSError."""
        with ExitStack() as stack:  # both, though one of them fails
            for each in filter(None, (self._whole, self._part)):
                stack.callback(each.close)
            self._whole = self._part = None


class _List:
    """A list of JSON in a new file, with the entries of so many `traces`."""

    def __init__(self, path: str) -> None:
        self.traces = 0
        self._file: IO[str] = open(path, "w", encoding="utf-8")  # noqa: SIM115  # see `close`
        self._file.write("[")

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._file.write("," * bool(self.traces) + ",".join(map(json.dumps, entries)))
        self.traces += 1

    def close(self) -> None:
        with self._file:
            self._file.write("]")


def entries_of(trace: Trace, has_timestamps: bool) -> list[dict[str, Any]]:
    """The objects that make up a trace: first what it is of, then its events, then its tensors."""
    version = int(trace.version or _ANY)
    about = {"id": trace.id, "model_name": trace.model, "model_version": version}
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
