"""Models that ask for an accelerator, which here is ONNX Runtime's CPU once more: by other options,
of another graph, or as a test has it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from serving.config import CPU, Placement
from serving.engine.backends.base import Session
from serving.engine.backends.ort import OrtBackend
from serving.engine.embedded import EmbeddedEngine
from serving.statistics import BuildState
from serving.types import Array, Signature
from tests.serving import graphs
from tests.serving.engine.numbered import SECONDS, Gate

ASKS: Final = """\
instance_group { kind: KIND_GPU count: 1 }
optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
"""
BATCHES: Final = "max_batch_size: 4 dynamic_batching {}\n"

Open = Callable[[Any, Path], Session]
_runtime: Final = OrtBackend(threads=1)


def times(factor: float) -> Any:
    """y = factor * x, of rows of two."""
    constant = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["product"]),
        helper.make_node("Identity", ["product"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    return graphs.of(helper.make_graph(nodes, "times", [x], [y], [constant]))


def add(root: Path, name: str = "m", config: str = BATCHES, graph: Any = None) -> Path:
    """A model that doubles, or computes `graph`, and asks for the accelerator; gives its file."""
    path = graphs.write(graph or times(2), root / name / "1" / "model.onnx")
    (root / name / "config.pbtxt").write_text('backend: "onnxruntime"\n' + ASKS + config)
    return path


def unoptimised(config: Any, folder: Path) -> Session:
    """The same graph, of which nothing is optimised."""
    changed = type(config)()
    changed.CopyFrom(config)
    changed.optimization.graph.level = 2
    return _runtime.open(changed, folder, CPU)


class Watched:
    """A session of ONNX Runtime that tells how often it ran, and whether it was closed."""

    steady = False

    def __init__(self, session: Session, placement: Placement) -> None:
        self._session = session
        self.placement = placement
        self.runs = 0
        self.closed = False

    @property
    def signature(self) -> Signature:
        return self._session.signature

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        assert not self.closed
        self.runs += 1
        return self._session.run(inputs, outputs)

    def close(self) -> None:
        self.closed = True
        self._session.close()


class Accelerating:
    """The backend; `accelerate` opens what has the accelerator, and `building` may hold that up."""

    def __init__(self, accelerate: Open = unoptimised) -> None:
        self._accelerate = accelerate
        self._lock = Lock()
        self.building = Gate()
        self.sessions: list[Watched] = []
        self.at_once = self.most_at_once = 0

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> Session:
        if not placement.accelerator:
            return self._kept(_runtime.open(config, folder, CPU), placement)
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.building.pass_through()
        with self._lock:
            self.at_once -= 1
        return self._kept(self._accelerate(config, folder), placement)

    def _kept(self, session: Session, placement: Placement) -> Watched:
        watched = Watched(session, placement)
        self.sessions.append(watched)
        return watched

    @property
    def alive(self) -> list[str]:
        """Where the sessions are that were not closed."""
        return [str(session.placement) for session in self.sessions if not session.closed]


async def settled(
    engine: EmbeddedEngine, name: str = "m", seconds: float = SECONDS
) -> tuple[BuildState | None, str]:
    """What became of the accelerator, and what the index says, once nothing is built any more."""
    async with asyncio.timeout(seconds):
        while (state := (await engine.statistics(name))[0].acceleration) is BuildState.BUILDING:
            await engine.index()
    [entry] = [entry for entry in await engine.index(ready_only=True) if entry.name == name]
    return state, entry.reason
