"""What an engine leaves to the one after it, of what clients have loaded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson

from serving.dtypes import Datatype
from serving.engine.base import Around
from serving.engine.embedded import EmbeddedEngine
from serving.settings import ModelControlMode, Settings
from serving.statistics import Histogram, VersionStatistics
from serving.types import InferenceRequest, LoadOverride, Tensor
from serving.workers import records, recovery
from serving.workers.joined import JoinedEngine, Peer
from serving.workers.ledger import Ledger
from serving.workers.recovery import LastingCounts, LastingModels, Ledgers, restore_models
from tests import adders

MODELS = 50


class Processes:
    """Engine processes, of which each begins in the place of the one before it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.ledgers = Ledgers()
        self._engines: list[EmbeddedEngine] = []

    async def begin(self, loading: str = "") -> LastingModels:
        """The next one: all models at first, and later those that were served.

        A client has it load the model `loading` amid its start.
        """
        served = self.ledgers.models_at_start()
        inner = EmbeddedEngine(
            Settings(
                model_repository=(self._root,),
                model_control_mode=ModelControlMode.EXPLICIT,
                load_model=("*",) if served is None else served,
            )
        )
        self._engines.append(inner)
        lasting = LastingModels(inner, self.ledgers.models)
        if loading:
            await lasting.load(loading, LoadOverride())
        await inner.start()
        await restore_models(inner, self.ledgers.models)
        await lasting.started()
        return lasting

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()
        self.ledgers.close()


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    made = Processes(tmp_path)
    yield made
    await made.close()


async def ready(lasting: LastingModels) -> set[str]:
    return {entry.name for entry in await lasting.engine.index(ready_only=True)}


async def answer(lasting: LastingModels) -> float:
    one = Tensor("x", Datatype.FP32, np.ones((1, 1), np.float32))
    response = await lasting.engine.infer(InferenceRequest("a", (one,)))
    return float(response.outputs[0].array.item())


async def most_rows(lasting: LastingModels) -> int:
    config = await lasting.engine.model_config("a")
    return int(config.max_batch_size)


async def load_otherwise(lasting: LastingModels) -> None:
    """Model `a` with a file and a configuration that its folder has not."""
    given = {"1/model.onnx": adders.graph(5)}
    await lasting.load("a", LoadOverride(adders.config_json(max_batch_size=2), given))


async def test_what_a_model_was_loaded_with_is_so_again(
    tmp_path: Path, processes: Processes
) -> None:
    adders.add(tmp_path, "a", 1)
    before = await processes.begin()
    await load_otherwise(before)
    assert (await answer(before), await most_rows(before)) == (6, 2)

    after = await processes.begin()

    assert (await answer(after), await most_rows(after)) == (6, 2)


async def test_what_a_plain_load_has_replaced_is_not_loaded_again(
    tmp_path: Path, processes: Processes
) -> None:
    adders.add(tmp_path, "a", 1)
    before = await processes.begin()
    await load_otherwise(before)
    await before.load("a", LoadOverride())
    assert (await answer(before), await most_rows(before)) == (2, 4)

    after = await processes.begin()

    assert (await answer(after), await most_rows(after)) == (2, 4)


async def test_a_configuration_is_loaded_again_until_a_load_finds_the_folder_changed(
    tmp_path: Path, processes: Processes
) -> None:
    folder = adders.add(tmp_path, "a", 1)
    first = await processes.begin()
    await first.load("a", LoadOverride(adders.config_json(max_batch_size=2)))
    await first.load("a", LoadOverride())
    second = await processes.begin()
    assert await most_rows(first) == await most_rows(second) == 2

    adders.publish(folder, 1, 7)
    await second.load("a", LoadOverride())
    third = await processes.begin()

    assert await most_rows(second) == await most_rows(third) == 4


async def test_what_went_with_a_part_does_not_bring_the_part_back(
    tmp_path: Path, processes: Processes
) -> None:
    adders.add(tmp_path, "a", 1)
    adders.chain(tmp_path, "outer", "a")
    before = await processes.begin()
    # As it is, but given by a client.
    config = MessageToJson(await before.engine.model_config("outer"))
    await before.load("outer", LoadOverride(config))
    await before.unload("a")
    assert await ready(before) == set()

    after = await processes.begin()

    assert await ready(after) == set()


async def test_a_load_amid_a_start_does_not_have_the_rest_forgotten(
    tmp_path: Path, processes: Processes
) -> None:
    for name in ("a", "b"):
        adders.add(tmp_path, name, 1)
    for _ in range(2):
        await processes.begin(loading="a")
        assert processes.ledgers.models_at_start() == ("a", "b")


async def test_a_repository_that_cannot_be_listed_costs_no_load_its_answer(
    tmp_path: Path, processes: Processes
) -> None:
    adders.add(tmp_path, "b", 1)
    lasting = await processes.begin()
    await asyncio.to_thread(tmp_path.rename, tmp_path.with_name("away"))
    given = {"1/model.onnx": adders.graph(5)}
    await lasting.load("a", LoadOverride(adders.config_json(), given))
    assert await answer(lasting) == 6


class Counted(Around):
    """An engine that has counted this."""

    def __init__(self, versions: Sequence[VersionStatistics]) -> None:
        self._versions = versions

    async def counted(self) -> Sequence[VersionStatistics]:
        return self._versions

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
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


async def test_requests_are_answered_while_models_are_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledgers = Ledgers()
    versions = [VersionStatistics(f"m{number}", "1") for number in range(MODELS)]
    turns = 0
    async with saving(versions, ledgers.counts, monkeypatch):
        while ledgers.counts.read() is None:
            turns += 1
            await asyncio.sleep(0)
    assert turns > MODELS // records.AT_ONCE
    ledgers.close()


async def test_what_was_told_while_counts_are_written_down_is_not_followed_by_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledgers = Ledgers()
    versions = [VersionStatistics(f"m{number}", "1") for number in range(MODELS)]
    async with saving(versions, ledgers.counts, monkeypatch) as lasting:
        for _ in range(12):
            # Before the place where the saving is by now, as a rule.
            versions[0].inference_count += 1
            told = sum(version.inference_count for version in await lasting.counted())
            for _ in range(MODELS // 2):
                await asyncio.sleep(0)
            assert rows(ledgers.counts) >= told
    ledgers.close()


async def test_what_is_told_counts_no_further_than_what_is_written_down() -> None:
    ledgers = Ledgers()
    versions = [VersionStatistics(f"m{number}", "1") for number in range(MODELS)]
    lasting = LastingCounts(Counted(versions).engine, ledgers.counts)
    for ask in (lasting.counted, lasting.statistics):
        told = await ask()
        # Requests are answered before the last one has been shown to whoever asks.
        versions[-1].inference_count += 1
        assert sum(version.inference_count for version in told) <= rows(ledgers.counts)
    ledgers.close()


async def test_no_more_is_told_of_several_engines_than_they_have_written_down() -> None:
    ledgers = Ledgers()
    own = VersionStatistics("m", "1")

    class Other(Counted):
        async def counted(self) -> Sequence[VersionStatistics]:
            own.inference_count += 1  # Requests are answered here meanwhile.
            return await super().counted()

    lasting = LastingCounts(Counted([own]).engine, ledgers.counts)
    other: Any = Other([VersionStatistics("m", "1")])
    joined = JoinedEngine(lasting.engine, [Peer(other, ledgers.counts)])
    told = sum(version.inference_count for version in await joined.counted())
    assert told <= rows(ledgers.counts)
    ledgers.close()


@pytest.mark.parametrize("bounds", [(1.0, 2.0), (1.0, 2.0, 3.0)])
async def test_an_engine_starts_whatever_buckets_the_one_before_it_counted_in(
    bounds: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = Ledgers()
    before = VersionStatistics("m", "1", inference_count=3, first_response=Histogram(bounds))
    before.record_first_response(1_000_000)
    async with saving([before], ledgers.counts, monkeypatch) as lasting:
        await lasting.counted()
    # Its configuration has changed on the disk by the time it starts.
    after = VersionStatistics("m", "1", first_response=Histogram((5.0, 10.0)))
    async with saving([after], ledgers.counts, monkeypatch):
        assert after.inference_count == 3
        assert after.first_response is not None
        assert after.first_response.counts == [0, 0, 0]
    ledgers.close()
