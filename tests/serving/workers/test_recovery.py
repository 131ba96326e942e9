"""What an engine leaves to the one after it, of what clients have loaded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine.base import Around, Engine
from serving.engine.embedded import EmbeddedEngine
from serving.settings import ModelControlMode, Settings
from serving.statistics import VersionStatistics
from serving.types import InferenceRequest, LoadOverride, Tensor
from serving.workers import recovery
from serving.workers.ledger import Ledger
from serving.workers.recovery import LastingCounts, LastingModels, Ledgers, restore_models
from tests import adders

MODELS = 50


async def answer(engine: Engine) -> float:
    one = Tensor("x", Datatype.FP32, np.ones((1, 1), np.float32))
    response = await engine.infer(InferenceRequest("a", (one,)))
    return float(response.outputs[0].array.item())


async def test_files_that_a_plain_load_has_replaced_are_not_loaded_again(tmp_path: Path) -> None:
    adders.add(tmp_path, "a", 1)
    settings = Settings(model_repository=(tmp_path,), model_control_mode=ModelControlMode.EXPLICIT)
    ledgers = Ledgers()
    inner = EmbeddedEngine(settings)
    await inner.start()
    engine = LastingModels(inner, ledgers.models).engine
    await engine.load(
        "a", LoadOverride(adders.config_json(max_batch_size=2), {"1/model.onnx": adders.graph(5)})
    )
    assert await answer(engine) == 6
    await engine.load("a", LoadOverride())
    assert await answer(engine) == 2
    await engine.close()

    inner = EmbeddedEngine(settings)
    await inner.start()
    await restore_models(inner, ledgers.models)

    assert await answer(inner) == 2
    assert (await inner.model_config("a")).max_batch_size == 2
    await inner.close()
    ledgers.close()


class Counted(Around):
    """An engine that has counted this."""

    def __init__(self, versions: Sequence[VersionStatistics]) -> None:
        self._versions = versions

    async def counted(self) -> Sequence[VersionStatistics]:
        return self._versions


@asynccontextmanager
async def saving(
    versions: Sequence[VersionStatistics], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LastingCounts]:
    """What is counted is written down again and again."""
    monkeypatch.setattr(recovery, "_INTERVAL", 0)
    lasting = LastingCounts(Counted(versions).engine, ledger)
    await lasting.restore()
    saving = lasting._saving
    assert saving is not None
    yield lasting
    saving.cancel()


def rows(ledger: Ledger) -> int:
    """As they are written down, of all versions."""
    return sum(version.inference_count for version in recovery.read_counts(ledger))


async def test_requests_are_answered_between_any_two_models_that_are_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledgers = Ledgers()
    versions = [VersionStatistics(f"m{number}", "1") for number in range(MODELS)]
    turns = 0
    async with saving(versions, ledgers.counts, monkeypatch):
        while ledgers.counts.read() is None:
            turns += 1
            await asyncio.sleep(0)
    assert turns > MODELS
    ledgers.close()


async def test_what_was_told_while_counts_are_written_down_is_not_followed_by_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledgers = Ledgers()
    versions = [VersionStatistics(f"m{number}", "1") for number in range(MODELS)]
    async with saving(versions, ledgers.counts, monkeypatch) as lasting:
        for _ in range(3 * MODELS):
            # Before the place where the saving is by now, as a rule.
            versions[0].inference_count += 1
            told = sum(version.inference_count for version in await lasting.counted())
            for _ in range(MODELS // 2):
                await asyncio.sleep(0)
                assert rows(ledgers.counts) >= told
    ledgers.close()
