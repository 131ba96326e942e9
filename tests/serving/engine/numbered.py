"""An engine over folders of which each version's file holds a number, which is its answer."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from serving.config import CPU, Placement
from serving.dtypes import Datatype
from serving.engine.embedded import EmbeddedEngine
from serving.errors import Internal, LoadFailed, ServingError
from serving.settings import ModelControlMode, PassportPolicy, Settings
from serving.types import (
    Array,
    IndexEntry,
    InferenceRequest,
    LoadOverride,
    Signature,
    Tensor,
    TensorSpec,
)

PLAIN: Final = LoadOverride()
SECONDS: Final = 30.0
ALL: Final = "version_policy { all {} }"
CONFIG: Final = """\
backend: "identity"
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""


class Gate:
    """Where threads wait while it is shut; it counts those that came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self.arrived = 0

    def shut(self) -> None:
        self._is_open = False

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def pass_through(self) -> None:
        with self._changed:
            self.arrived += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._is_open, SECONDS)

    async def reached(self, times: int) -> None:
        """Once that many threads have come, since the beginning."""
        await asyncio.to_thread(self._wait, times)

    def _wait(self, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.arrived >= times, SECONDS)


class NumberSession:
    """Answers `number`, whatever it is asked; what its tensors are called, `config` says."""

    steady = False

    def __init__(self, config: Any, number: float, gate: Gate) -> None:
        self.signature = Signature(_specs(config.input), _specs(config.output))
        self._number = number
        self._gate = gate
        self.closed = False

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        if inputs["x"].any():  # not the zeros of the warm-up
            self._gate.pass_through()
        if self.closed:
            raise Internal("a session was asked after it was closed")
        return [np.array([self._number], np.float32) for _ in outputs]

    def close(self) -> None:
        self.closed = True


def _specs(tensors: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, Datatype.FP32, (1,)) for tensor in tensors)


class Numbers:
    """The backend; `opening` and `running` may hold up what it does."""

    def __init__(self) -> None:
        self.opening = Gate()
        self.running = Gate()
        self.sessions: list[NumberSession] = []
        self.opened: list[str] = []

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> NumberSession:
        text = (folder / "number").read_text()
        self.opened.append(f"{folder.parent.name}/{folder.name}")
        self.opening.pass_through()
        if not text.isdecimal():
            raise LoadFailed(f"{folder}: {text!r} is no number")
        session = NumberSession(config, float(text), self.running)
        self.sessions.append(session)
        return session

    @property
    def alive(self) -> int:
        """Sessions that were not closed."""
        return sum(not session.closed for session in self.sessions)


class Folders:
    """A repository to write to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, *versions: int, config: str = "") -> Path:
        """A model whose versions answer their own number."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        (folder / "config.pbtxt").write_text(CONFIG + config)
        for version in versions:
            self.put(name, version, version)
        return folder

    def put(self, name: str, version: int, number: object) -> None:
        """Put a version's file in place at once."""
        folder = self.root / name / str(version)
        folder.mkdir(exist_ok=True)
        scratch = folder / ".number"
        scratch.write_text(str(number))
        os.replace(scratch, folder / "number")

    def ensemble(self, name: str, *parts: str, version: int = 1) -> None:
        """A model that asks its parts one after the other."""
        tensors = ["x", *(f"t{index}" for index in range(1, len(parts))), "y"]
        steps = "".join(
            f'step {{ model_name: "{part}" model_version: -1 input_map {{ key: "x" value: '
            f'"{tensors[index]}" }} output_map {{ key: "y" value: "{tensors[index + 1]}" }} }}\n'
            for index, part in enumerate(parts)
        )
        folder = self.root / name
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
        (folder / "config.pbtxt").write_text(
            CONFIG.replace('backend: "identity"', 'platform: "ensemble"')
            + f"ensemble_scheduling {{\n{steps}}}\n"
        )


@asynccontextmanager
async def engine_over(
    *repositories: Path,
    backend: Numbers | None = None,
    mode: ModelControlMode = ModelControlMode.EXPLICIT,
    **settings: Any,
) -> AsyncIterator[EmbeddedEngine]:
    """A started engine, closed after the block."""
    engine = EmbeddedEngine(
        Settings(
            model_repository=repositories,
            model_control_mode=mode,
            passport_policy=PassportPolicy.OFF,
            **settings,
        ),
        {"identity": backend or Numbers()},
    )
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


def request(model: str, version: str = "") -> InferenceRequest:
    """One request, not of zeros."""
    x = Tensor("x", Datatype.FP32, np.ones(1, np.float32))
    return InferenceRequest(model, (x,), version)


async def ask(engine: EmbeddedEngine, model: str, version: str = "") -> tuple[str, float]:
    """The version that answered, and the number."""
    response = await engine.infer(request(model, version))
    return response.version, float(response.outputs[0].array[0])


async def index(engine: EmbeddedEngine, ready_only: bool = False) -> list[tuple[str, ...]]:
    """The index, each line as name, version, state and reason as far as they are said."""
    return [_line(entry) for entry in await engine.index(ready_only)]


async def drained(engine: EmbeddedEngine, line: tuple[str, ...]) -> None:
    """Once the index says so."""
    async with asyncio.timeout(SECONDS):
        while line not in await index(engine):
            pass


async def refusal(engine: EmbeddedEngine, model: str, given: LoadOverride = PLAIN) -> ServingError:
    """Why the load was refused."""
    with pytest.raises(ServingError) as failure:
        await engine.load(model, given)
    return failure.value


def _line(entry: IndexEntry) -> tuple[str, ...]:
    state = entry.state.value if entry.state else ""
    return tuple(filter(None, (entry.name, entry.version, state, entry.reason)))
