"""Runs ONNX Runtime sessions whose tensors are bound to the memory of a GPU.

The inputs of each shape that comes have buffers that stay: one in pinned memory of the host, one on
the device. Outputs are made on the device and copied once, into the arrays that are handed out.
With CUDA graphs the launches of a shape's kernels are recorded and replayed as one; as a graph is
of fixed addresses, batches are filled up with zeros to sizes that come again.

A session has a CUDA stream of its own, so that instances with a session each run side by side.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeAlias

import numpy as np

from serving import breakdown
from serving.engine.backends import cuda_errors
from serving.engine.backends.ort_session import OrtSession
from serving.errors import Internal
from serving.types import Array

logger = logging.getLogger("penstock.engine")

# Names, shapes and types of inputs, and the outputs that are asked for.
Key: TypeAlias = tuple[tuple[tuple[str, tuple[int, ...], str], ...], tuple[str, ...]]

# Shapes whose buffers are kept, and bytes of them in each memory: of batches of every size, or of
# texts of every length, there would be no end.
_KEPT: Final = 32
_BYTES: Final = 256 * 1024 * 1024
_GRAPH_ID: Final = "gpu_graph_id"
_NO_GRAPH: Final = -1


@dataclass(frozen=True, slots=True)
class Memory:
    """Where tensors are bound: ONNX Runtime's name of the device, its number, what makes arrays in
    the memory of the host that is copied from, and what a thread calls before it uses either."""

    kind: str
    number: int = 0
    staging: Callable[[tuple[int, ...], "np.dtype[Any]"], Array] = np.empty
    enter: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Graphs:
    """CUDA graphs, one for each shape of inputs; batches are filled up to one of the sizes `rows`,
    which are ascending, and to none where there are none."""

    rows: tuple[int, ...] = ()

    def padded(self, inputs: Mapping[str, Array]) -> int:
        """How many rows a run of these inputs has; 0 where they are not batches of as many rows."""
        counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        if len(counts) != 1:
            return 0
        count = counts.pop()
        return next((size for size in self.rows if size >= count > 0), 0)


class DeviceSession(OrtSession):
    """As OrtSession; what numpy has no numbers for is left to the runtime to copy."""

    def __init__(
        self,
        runtime: Any,
        session: Any,
        path: Path,
        options: Callable[[], Any],
        memory: Memory,
        graphs: Graphs | None = None,
    ) -> None:
        """`options` makes what the runs are run with."""
        plain = options()
        if graphs is not None:
            # What takes the runtime's own way would be recorded with the places of its first run.
            plain = _with_graph(runtime, plain, _NO_GRAPH)
        super().__init__(runtime, session, path, plain)
        self._options = options
        self._memory = memory
        self._graphs = graphs
        self._idle: OrderedDict[Key, list[_Buffers]] = OrderedDict()
        self._held = 0  # bytes of those that are idle
        self._captured = 0
        self._lock = Lock()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute one batch; raises Internal with the runtime's own words."""
        self._memory.enter()
        if not self._plain or not all(array.size for array in inputs.values()):
            return super().run(inputs, outputs)
        rows = self._graphs.padded(inputs) if self._graphs else 0
        key = _key(inputs, outputs, rows)
        try:
            buffers = self._take(key) or self._make(key)
            found = buffers.run(inputs)
        except Exception as error:  # the runtime raises a class of its own per status code
            raise self._failed(error) from error
        self._put(key, buffers)
        if not rows:
            return found
        given = next(iter(inputs.values())).shape[0]
        return [array[:given] for array in found]

    def close(self) -> None:
        """Release the buffers, and the runtime's session."""
        self._memory.enter()
        with self._lock:
            self._idle.clear()
        super().close()

    def _failed(self, error: Exception) -> Internal:
        text = str(error)
        reason = cuda_errors.explain(text)
        if cuda_errors.is_fatal(text):
            logger.critical("GPU %d is lost to this process: %s", self._memory.number, text)
            breakdown.tell(f"GPU {self._memory.number} is lost to this process: {reason}")
        return Internal(f"onnx runtime error: {reason}") if reason else super()._failed(error)

    def _take(self, key: Key) -> "_Buffers | None":
        """Buffers that no other run has in use."""
        with self._lock:
            idle = self._idle.get(key)
            if not idle:
                return None
            self._held -= idle[-1].size
            return idle.pop()

    def _put(self, key: Key, buffers: "_Buffers") -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(buffers)
            self._idle.move_to_end(key)
            self._held += buffers.size
            while self._is_too_much():
                _, dropped = self._idle.popitem(last=False)
                self._held -= sum(each.size for each in dropped)

    def _is_too_much(self) -> bool:
        # A graph is of its buffers, which are as few as the graphs.
        exceeds = self._held > _BYTES and self._graphs is None
        return len(self._idle) > 1 and (exceeds or len(self._idle) > _KEPT)

    def _make(self, key: Key) -> "_Buffers":
        plain, graph = self._options(), None
        if self._graphs is not None:
            plain = _with_graph(self._runtime, plain, _NO_GRAPH)
            # What is recorded stays until the session goes: beyond so many, runs are not.
            if self._captured < _KEPT:
                graph = _with_graph(self._runtime, self._options(), self._captured)
                self._captured += 1
        return _Buffers(self._runtime, self._session, key, self._memory, plain, graph)


class _Buffers:
    """What a run of inputs of one shape takes; used by one run at a time."""

    def __init__(
        self, runtime: Any, session: Any, key: Key, memory: Memory, plain: Any, graph: Any
    ) -> None:
        """`graph` are the options that record and replay; None where nothing is recorded."""
        shapes, self._outputs = key
        self._session, self._memory = session, memory
        self._options, self._graph = plain, graph
        self._binding = session.io_binding()
        self._staged: dict[str, Array] = {}
        self._values: dict[str, Any] = {}
        for name, shape, kind in shapes:
            dtype = np.dtype(kind)
            self._staged[name] = memory.staging(shape, dtype)
            value = runtime.OrtValue.ortvalue_from_shape_and_type(
                shape, dtype.type, memory.kind, memory.number
            )
            self._values[name] = value
            self._binding.bind_ortvalue_input(name, value)
        self.size = sum(array.nbytes for array in self._staged.values())
        self._bind_outputs()

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        for name, array in inputs.items():
            staged = self._staged[name]
            np.copyto(staged[: len(array)] if array.ndim else staged, array)
            if array.ndim:
                staged[len(array) :] = 0
            self._values[name].update_inplace(staged)
        self._session.run_with_iobinding(self._binding, self._options)
        found: list[Array] = self._binding.copy_outputs_to_cpu()
        if self._graph is None:
            # Else the next run would be held to the shapes of this one.
            self._bind_outputs()
        else:
            # The first run has made the outputs; from here on they stay where they are.
            self._options = self._graph
        return found

    def _bind_outputs(self) -> None:
        for name in self._outputs:
            self._binding.bind_output(name, self._memory.kind, self._memory.number)


def _key(inputs: Mapping[str, Array], outputs: Sequence[str], rows: int) -> Key:
    shapes = (
        (name, (rows, *array.shape[1:]) if rows else array.shape, array.dtype.str)
        for name, array in inputs.items()
    )
    return tuple(shapes), tuple(outputs)


def _with_graph(runtime: Any, options: Any, graph: int) -> Any:
    options = options or runtime.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, str(graph))
    return options
