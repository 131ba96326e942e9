"""The load that autoscalers follow: how long a request that came now would wait, in objectives."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from serving.config import Source, complete, parse, resolve
from serving.engine.model import ModelVersion
from serving.engine.scheduling import schedule
from serving.engine.servable import Opened
from serving.metrics_settings import MetricsSettings
from serving.statistics import VersionStatistics
from tests.serving.engine.test_model import GRAPH, PLAIN, FunctionSession, Gate, request
from tests.serving.exposed import exposed

MS = 1_000_000
OBJECTIVE = 'parameters { key: "latency_objective_ms" value { string_value: "50" } }'


@asynccontextmanager
async def served(
    gate: Gate, run_times: Mapping[int, int], text: str = PLAIN
) -> AsyncIterator[ModelVersion]:
    """A version that has been seen to take so long in its warm-up, by rows."""
    source = Source("config.pbtxt", text)
    config = complete(resolve(parse(text, source.name), "m", source), GRAPH, source)
    opened = Opened(config, "1", [FunctionSession(GRAPH, gate)], {}, run_times=run_times)
    version = ModelVersion(opened, schedule(opened, 16))
    try:
        yield version
    finally:
        gate.open()
        await version.close()


def load_of(*versions: VersionStatistics, objective_ms: float = 100) -> list[float]:
    text = exposed(versions, settings=MetricsSettings(load_objective_ms=objective_ms))
    return [float(value) for value in re.findall(r"^penstock_load\{.*\} (\S+)$", text, re.M)]


async def test_the_wait_is_that_of_all_rows_that_are_accepted_and_not_answered() -> None:
    gate = Gate()
    async with served(gate, {1: 10 * MS, 4: 20 * MS}) as version:
        assert version.statistics.wait == 0
        running = asyncio.create_task(version.infer(request([[0, 0]] * 4)))
        await gate.entered.wait()
        assert version.statistics.wait == 20 * MS
        waiting = asyncio.create_task(version.infer(request([[0, 0]] * 2)))
        while version.statistics.pending < 1:
            await asyncio.wait([waiting], timeout=0)
        # A batch behind the one that runs, of which four rows would take no longer than two.
        assert version.statistics.wait == 40 * MS
        gate.open()
        await asyncio.gather(running, waiting)
        assert version.statistics.wait == 0


async def test_the_objective_is_that_of_the_model_s_configuration() -> None:
    async with served(Gate(), {}, PLAIN + OBJECTIVE) as version:
        assert version.statistics.objective == 50 * MS
    async with served(Gate(), {}) as version:
        assert version.statistics.objective == 0


@pytest.mark.parametrize(("objective", "load"), [(50 * MS, 3.0), (0, 1.5)])
def test_the_load_is_the_wait_in_objectives_of_the_model_or_else_of_the_server(
    objective: int, load: float
) -> None:
    version = VersionStatistics("m", "1", wait=150 * MS, objective=objective)

    assert load_of(version, objective_ms=100) == [load]


def test_what_has_no_queue_has_no_load() -> None:
    assert load_of(VersionStatistics("ensemble", "1")) == []
    assert load_of(VersionStatistics("idle", "1", wait=0)) == [0.0]
