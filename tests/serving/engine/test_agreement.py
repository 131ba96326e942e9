"""A load that pauses before it serves, until whoever loads beside it has come as far."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine.embedded import EmbeddedEngine
from serving.errors import InvalidArgument
from serving.settings import ModelControlMode, Settings
from serving.types import InferenceRequest, LoadOverride, Tensor
from tests import adders

AS_IT_LIES = LoadOverride()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    """Adds 1 by `m`, and twice that by `twice`, which is made of it."""
    adders.add(tmp_path, "m", 1)
    adders.chain(tmp_path, "twice", "m", "m")
    made = EmbeddedEngine(
        Settings(
            model_repository=(tmp_path,),
            model_control_mode=ModelControlMode.EXPLICIT,
            load_model=("*",),
        )
    )
    await made.start()
    yield made
    await made.close()


async def answer(engine: EmbeddedEngine, model: str = "m") -> float:
    zero = Tensor("x", Datatype.FP32, np.zeros((1, 1), np.float32))
    response = await engine.infer(InferenceRequest(model, (zero,)))
    return float(response.outputs[0].array.item())


async def test_what_was_opened_serves_when_the_pause_is_over(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    adders.publish(tmp_path / "m", 2, 2)
    async with aclosing(engine.prepare("m", AS_IT_LIES)) as steps:
        await anext(steps)
        assert await answer(engine) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(steps)
        assert await answer(engine) == 2


async def test_what_was_given_up_never_serves(engine: EmbeddedEngine, tmp_path: Path) -> None:
    adders.publish(tmp_path / "m", 2, 2)
    async with aclosing(engine.prepare("m", AS_IT_LIES)) as steps:
        await anext(steps)
    adders.publish(tmp_path / "m", 3, 3)
    await engine.load("m", AS_IT_LIES)
    assert await answer(engine) == 3
    assert [entry.version for entry in await engine.index() if entry.name == "m"] == ["1", "3"]


async def test_what_is_made_of_a_model_follows_it_without_another_pause(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    adders.publish(tmp_path / "m", 2, 2)
    assert [step async for step in engine.prepare("m", AS_IT_LIES)] == [None]
    assert await answer(engine, "twice") == 4


async def test_what_cannot_be_opened_is_told_before_any_pause(
    engine: EmbeddedEngine, tmp_path: Path
) -> None:
    adders.put(tmp_path / "m", 2, adders.BROKEN)
    async with aclosing(engine.prepare("m", AS_IT_LIES)) as steps:
        with pytest.raises(InvalidArgument, match="version 2"):
            await anext(steps)
    assert await answer(engine) == 1
