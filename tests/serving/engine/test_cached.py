"""A version behind the response cache, in front of a model and in front of an ensemble."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from serving.engine.cache import ResponseCache
from serving.errors import Internal, InvalidArgument
from serving.types import Array, RequestedOutput
from tests.ensembles import ensemble, step
from tests.serving.engine.models import Gate, Models, let_others_run, tensor

CACHED = "response_cache { enable: true }"
ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
ONE = ensemble(step("a", "x=in", "y=out"), head=f'platform: "ensemble" max_batch_size: 8 {CACHED}')


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    async with Models(ResponseCache(64 * 1024)) as models:
        yield models


async def test_the_second_of_two_equal_requests_does_not_run_the_model(models: Models) -> None:
    session = models.add("a", more=CACHED)

    answers = [await models.ask("a", tensor(ROWS, "x"), id=id) for id in ("1", "2")]

    assert session.ran == [(2, 4)]
    assert [answer.outputs[0].array.tolist() for answer in answers] == 2 * [(2 * ROWS).tolist()]
    assert [(one.model, one.version, one.id) for one in answers] == [
        ("a", "1", "1"),
        ("a", "1", "2"),
    ]


async def test_hits_and_misses_are_counted_as_triton_counts_them(models: Models) -> None:
    models.add("a", more=CACHED)

    for value in (1, 1, 1, 2):
        await models.ask("a", tensor(np.full((2, 4), value), "x"))

    counted = models.find("a", "").statistics
    assert counted.caches
    assert (counted.cache_hit.count, counted.cache_miss.count) == (2, 2)
    assert (counted.success.count, counted.queue.count) == (4, 4)
    assert (counted.inference_count, counted.execution_count) == (4, 2)
    assert counted.compute_infer.count == 2
    assert 0 < counted.cache_hit.ns < counted.success.ns
    assert counted.cache_miss.ns > 0


async def test_a_model_that_does_not_ask_for_it_is_not_cached(models: Models) -> None:
    session = models.add("a")

    for _ in range(2):
        await models.ask("a", tensor(ROWS, "x"))

    assert len(session.ran) == 2
    assert not models.find("a", "").statistics.caches


async def test_without_a_cache_a_model_that_asks_for_one_runs_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Models(cache=None) as models:
        session = models.add("a", more=CACHED)
        for _ in range(2):
            await models.ask("a", tensor(ROWS, "x"))

        assert len(session.ran) == 2
        assert models.find("a", "").statistics.cache_miss.count == 0
    assert "a version 1 asks for a response cache and the server has none" in caplog.text
    assert "--cache-config=local,size=" in caplog.text


async def test_each_version_has_answers_of_its_own(models: Models) -> None:
    models.add("a", lambda x: x + 1, version="1", more=CACHED)
    models.add("a", lambda x: x + 2, version="2", more=CACHED)
    zeros = tensor(np.zeros((1, 4)), "x")

    answers = [
        (await models.ask("a", zeros, version=version)).outputs[0].array[0, 0]
        for version in ("1", "2", "1", "2")
    ]

    assert answers == [1, 2, 1, 2]


async def test_what_differs_in_its_requested_outputs_is_answered_anew(models: Models) -> None:
    session = models.add("a", more=CACHED)
    classes = (RequestedOutput("y", classification=1),)

    plain = await models.ask("a", tensor(ROWS, "x"))
    classified = await models.ask("a", tensor(ROWS, "x"), outputs=classes)

    assert len(session.ran) == 2
    assert plain.outputs[0].array.shape == (2, 4)
    assert classified.outputs[0].array.tolist() == [[b"6.000000:3"], [b"14.000000:3"]]


async def test_a_failure_is_not_remembered(models: Models) -> None:
    failing = True

    def function(x: Array) -> Array:
        if failing:
            raise Internal("not yet")
        return x

    models.add("a", function, more=CACHED)
    with pytest.raises(Internal):
        await models.ask("a", tensor(ROWS, "x"))
    failing = False
    await models.ask("a", tensor(ROWS, "x"))

    counted = models.find("a", "").statistics
    assert (counted.fail.count, counted.success.count) == (1, 1)
    assert (counted.cache_hit.count, counted.cache_miss.count) == (0, 1)


async def test_an_invalid_request_is_refused_as_without_a_cache(models: Models) -> None:
    models.add("a", more=CACHED)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="unexpected shape for input 'x'"):
            await models.ask("a", tensor(np.ones((1, 5)), "x"))


async def test_equal_requests_at_the_same_time_run_each(models: Models) -> None:
    gate = Gate()
    session = models.add("a", gate, more=CACHED)

    asked = [asyncio.create_task(models.ask("a", tensor(ROWS, "x"))) for _ in range(3)]
    await gate.arrived.wait()
    gate.open()
    await asyncio.gather(*asked)
    await models.ask("a", tensor(ROWS, "x"))

    assert sum(rows for rows, _ in session.ran) == 6
    counted = models.find("a", "").statistics
    assert (counted.cache_hit.count, counted.cache_miss.count) == (1, 3)


async def test_a_closed_version_leaves_nothing_in_the_cache(models: Models) -> None:
    gate = Gate()
    models.add("a", gate, more=CACHED)
    assert models.cache is not None
    servable = models.find("a", "")
    late = asyncio.create_task(models.ask("a", tensor(ROWS, "x")))
    await gate.arrived.wait()

    closing = asyncio.create_task(servable.close())
    await let_others_run()
    gate.open()
    await asyncio.gather(closing, late)

    assert models.cache.statistics.entries == 0
    assert models.cache.statistics.used == 0


async def test_an_ensemble_may_be_cached_as_a_whole(models: Models) -> None:
    session = models.add("a")
    models.add_ensemble("e", ONE)

    answers = [await models.ask("e", tensor(ROWS)) for _ in range(2)]

    assert session.ran == [(2, 4)]
    assert answers[0].outputs[0].array.tolist() == answers[1].outputs[0].array.tolist()
    counted = models.find("e", "").statistics
    assert (counted.cache_hit.count, counted.cache_miss.count) == (1, 1)
    assert (counted.execution_count, counted.success.count) == (1, 2)


async def test_a_cached_step_costs_its_ensemble_nothing(models: Models) -> None:
    session = models.add("a", more=CACHED)
    models.add_ensemble("e", ONE.replace(CACHED, ""))

    for _ in range(2):
        response = await models.ask("e", tensor(ROWS))

    assert session.ran == [(2, 4)]
    assert response.timing is not None
    assert response.timing.compute_infer == 0
    own, of_step = (models.find(name, "").statistics for name in "ea")
    assert (own.execution_count, own.inference_count, own.cache_hit.count) == (2, 4, 0)
    assert (of_step.execution_count, of_step.cache_hit.count) == (1, 1)
