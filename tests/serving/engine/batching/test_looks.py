"""When to stop looking for more requests: by rows and a set clock, and on a real loop."""

import asyncio

import pytest

from serving.engine.batching.looks import Looks
from tests.serving.engine.batching.driving import MS, Clock, Model, batching, results, submit, turns
from tests.serving.engine.batching.policies import policy

US = 1000


def looked(looks: Looks, rows: list[int], *, every: int = US) -> int:
    """How many turns of so many nanoseconds it looked, while so many rows waited in each."""
    looks.begin()
    for turn, waiting in enumerate(rows):
        if not looks.again(waiting, turn * every):
            return turn
    raise AssertionError("it never stopped")


def test_it_looks_until_several_turns_have_brought_nothing() -> None:
    assert looked(Looks(8), [1] * 9) == 4
    assert looked(Looks(8), [1, 2, 2, 2, 3, 3, 3, 3, 3, 3]) == 8


def test_a_batch_that_is_full_starts_at_once() -> None:
    assert looked(Looks(8), [8]) == 0
    assert looked(Looks(8), [3, 6, 9]) == 2
    assert looked(Looks(1), [1]) == 0


def test_turns_that_take_long_are_not_waited_for() -> None:
    assert looked(Looks(64), [1, 1, 1], every=300 * US) == 1
    assert looked(Looks(64), [1, 2, 3, 4], every=400 * US) == 2
    assert looked(Looks(64), list(range(1, 99)), every=200 * US) == 63


def test_nobody_is_kept_waiting_where_turns_never_bring_anything() -> None:
    looks = Looks(8)
    found = [looked(looks, [1] * 9) for _ in range(49)]
    assert found == [4] * 17 + [1] * 15 + [4] + [1] * 15 + [4]


@pytest.mark.parametrize("company", [[1, 2], [5, 6], [1, 0], [1, 8]])
def test_who_gets_company_is_waited_for_again(company: list[int]) -> None:
    looks = Looks(8)
    for _ in range(20):
        looked(looks, [1] * 9)
    looked(looks, company + company[-1:] * 9)
    assert looked(looks, [1] * 9) == 4


def test_each_batch_is_looked_for_anew() -> None:
    looks = Looks(8)
    looked(looks, [5] * 9)
    looks.begin()
    assert looks.again(5, 99 * MS)


def test_nobody_is_waited_for_once_all_have_left() -> None:
    assert looked(Looks(8), [0, 0], every=1) == 1


async def test_requests_that_are_read_in_turns_one_after_another_share_a_batch() -> None:
    model = Model(is_open=True)
    async with batching(model, policy(max_rows=8), goal=8, clock=Clock()) as batcher:
        tasks = []
        for item in range(8):
            tasks.append(submit(batcher, item))
            await asyncio.sleep(0)
        await results(*tasks)
    assert model.batches == [list(range(8))]


async def test_a_request_alone_waits_for_some_turns_only() -> None:
    model = Model()
    async with batching(model, policy(max_rows=8), goal=8, clock=Clock()) as batcher:
        alone = submit(batcher, 0)
        await turns(3)
        assert batcher.waiting == 1
        await turns(6)
        assert batcher.running == 1
        model.open()
        assert await results(alone) == [100]


async def test_nobody_looks_for_company_while_all_instances_are_busy() -> None:
    model, clock = Model(), Clock()
    async with batching(model, policy(max_rows=8), goal=8, clock=clock) as batcher:
        running = submit(batcher, 0)
        await model.arrival()
        reads = clock.reads
        waiting = submit(batcher, 1)
        await turns(9)
        assert clock.reads - reads == 2  # when it came, and whether it can start
        model.open()
        assert await results(running, waiting) == [100, 101]
