"""What becomes of a request whose steps fail, or whose time is up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.errors import (
    DeadlineExceeded,
    Internal,
    Overloaded,
)
from serving.statistics import FailureReason
from serving.types import Array
from tests.ensembles import ensemble, step
from tests.serving.engine.ensembles import CHAIN, FORK, HEAD, ONE, ROWS
from tests.serving.engine.models import Gate, Models, let_others_run, tensor


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    async with Models() as models:
        yield models


def fail(_: Array) -> Array:
    raise Internal("out of luck")


async def test_a_failing_step_is_named_with_its_model(models: Models) -> None:
    models.add("a")
    models.add("b", fail)
    models.add_ensemble("inner", CHAIN)
    models.add_ensemble("outer", ensemble(step("inner", "in=in", "out=out"), head=HEAD))

    with pytest.raises(Internal) as failure:
        await models.ask("outer", tensor(ROWS))

    assert failure.value.message == (
        "in ensemble 'outer', step 0 of model 'inner': "
        "in ensemble 'inner', step 1 of model 'b': out of luck"
    )
    assert str(failure.value) == failure.value.message


async def test_a_failing_step_cancels_what_runs_beside_it(models: Models) -> None:
    gate = Gate()
    busy = Gate()
    models.add("a", busy)
    models.add("b", lambda x: fail(gate(x)))
    models.add_ensemble("e", FORK)
    occupying = asyncio.create_task(models.ask("a", tensor(ROWS, "x")))
    await busy.arrived.wait()

    asked = asyncio.create_task(models.ask("e", tensor(ROWS)))
    await gate.arrived.wait()
    gate.open()
    with pytest.raises(Internal):
        await asked
    busy.open()
    await occupying

    beside = models.find("a", "").statistics
    assert beside.failures[FailureReason.CANCELED] == 1
    assert beside.execution_count == 1


async def test_a_cancelled_request_leaves_the_queues_of_its_steps(models: Models) -> None:
    busy = Gate()
    session = models.add("a", busy)
    models.add("b")
    models.add_ensemble("e", FORK)
    occupying = asyncio.create_task(models.ask("a", tensor(ROWS, "x")))
    await busy.arrived.wait()

    asked = asyncio.create_task(models.ask("e", tensor(ROWS)))
    await let_others_run()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    busy.open()
    await occupying

    assert session.ran == [(2, 4)]
    statistics = models.find("e", "").statistics
    assert statistics.failures[FailureReason.CANCELED] == 1
    assert statistics.fail.count == 1


async def test_a_deadline_passes_to_the_steps(models: Models) -> None:
    busy = Gate()
    models.add("a", busy)
    models.add_ensemble("e", ONE)
    occupying = asyncio.create_task(models.ask("a", tensor(ROWS, "x")))
    await busy.arrived.wait()

    with pytest.raises(DeadlineExceeded, match="in ensemble 'e', step 0 of model 'a'"):
        await models.ask("e", tensor(ROWS), deadline=1)
    busy.open()
    await occupying


async def test_a_refusal_of_a_step_keeps_when_to_come_back(models: Models) -> None:
    busy = Gate()
    models.add("a", busy, batching="default_queue_policy { max_queue_size: 1 }")
    models.add_ensemble("e", ONE)
    occupying = [asyncio.create_task(models.ask("a", tensor(ROWS, "x")))]
    await busy.arrived.wait()
    occupying.append(asyncio.create_task(models.ask("a", tensor(ROWS, "x"))))
    await let_others_run()

    with pytest.raises(Overloaded, match=r"in ensemble 'e'.*Exceeds maximum queue size") as failure:
        await models.ask("e", tensor(ROWS))
    busy.open()
    await asyncio.gather(*occupying)

    # Nothing is known yet of how long those that wait will take.
    assert failure.value.retry_after == 0.0


async def test_a_failed_request_is_counted_once_by_its_ensemble(models: Models) -> None:
    models.add("a", fail)
    models.add_ensemble("e", ONE)

    with pytest.raises(Internal):
        await models.ask("e", tensor(ROWS))

    own = models.find("e", "").statistics
    assert (own.fail.count, own.failures[FailureReason.OTHER]) == (1, 1)
    assert models.find("a", "").statistics.failures[FailureReason.BACKEND] == 1
