"""What cannot be answered in time is refused, and only that."""

import asyncio
from functools import partial
from typing import Any

import pytest

from serving.engine.batching.admission import Admission, Line
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.queue import BatchQueue
from serving.errors import Overloaded
from serving.types import Timing
from tests.serving.engine.batching.driving import Clock, Model
from tests.serving.engine.batching.policies import policy

MS = 1_000_000


def learned(**times: int) -> Forecast:
    """`r8=20`: a batch of 8 rows takes 20 ms."""
    forecast = Forecast()
    for rows, milliseconds in times.items():
        forecast.learn(int(rows[1:]), milliseconds * MS)
    return forecast


def line(rows: int, batches: int, free_at: int = 0, idle: bool = False) -> Line:
    return Line(rows, batches, free_at * MS, idle)


def is_admitted(admission: Admission, line: Line, deadline: int | None = None) -> bool:
    try:
        admission.check(line, 0, None if deadline is None else deadline * MS)
    except Overloaded:
        return False
    return True


def answered_by(admission: Admission, line: Line) -> int:
    """The milliseconds within which an answer is promised, as short as they may be."""
    return next(each for each in range(1, 10_000) if is_admitted(admission, line, each))


def test_a_request_waits_for_what_runs_for_the_batches_before_it_and_for_its_own() -> None:
    admission = Admission(learned(r1=5, r8=20), 1)
    assert answered_by(admission, line(1, 1, free_at=7)) == 7 + 5
    assert answered_by(admission, line(8, 1, free_at=7)) == 7 + 20
    assert answered_by(admission, line(24, 3, free_at=7)) == 7 + 3 * 20


def test_instances_share_the_batches_before_the_last() -> None:
    assert answered_by(Admission(learned(r8=20), 2), line(24, 3)) == 20 + 20


def test_a_batch_is_expected_to_grow_as_others_have_lately() -> None:
    admission = Admission(learned(r1=5, r8=20), 1)
    for _ in range(50):
        admission.learn_size(8)
        admission.learn_error(0)
    assert answered_by(admission, line(1, 1)) == 20
    for _ in range(50):
        admission.learn_size(1)
        admission.learn_error(0)
    assert answered_by(admission, line(1, 1)) == 5


def test_answers_that_came_late_are_allowed_for_until_they_come_in_time_again() -> None:
    admission = Admission(learned(r8=20), 1)
    for _ in range(100):
        admission.learn_size(8)
        admission.learn_error(30 * MS)
    assert answered_by(admission, line(8, 1)) == pytest.approx(20 + 30, abs=2)
    for _ in range(200):
        admission.learn_size(8)
        admission.learn_error(-10 * MS)
    assert answered_by(admission, line(8, 1)) == 20


def test_nobody_is_refused_by_what_nothing_is_known_of_or_nothing_runs_against() -> None:
    assert is_admitted(Admission(Forecast(), 1), line(1000, 10), 1)
    slow = Admission(learned(r1=5000), 1)
    assert is_admitted(slow, line(1, 1, idle=True), 1)
    assert is_admitted(slow, line(1000, 1000))
    # Whose deadline has passed is refused for that, by the queue.
    assert is_admitted(slow, line(1000, 1000), 0)


def test_an_objective_holds_for_all_and_the_earlier_deadline_counts() -> None:
    admission = Admission(learned(r8=8), 1, objective=20 * MS)
    assert is_admitted(admission, line(16, 2))
    assert not is_admitted(admission, line(24, 3))
    assert not is_admitted(admission, line(16, 2), 10)
    assert not is_admitted(admission, line(24, 3), 500)


def test_who_is_refused_is_told_when_to_come_again() -> None:
    with pytest.raises(Overloaded, match="expected in 2000 ms, and wanted within 500 ms") as caught:
        Admission(learned(r1=1000), 1).check(line(2, 2), 0, 500 * MS)
    assert caught.value.retry_after == 1.5


def test_refusals_are_told_at_once_unless_there_is_a_storm_of_them() -> None:
    admission = Admission(learned(r1=5), 1)
    assert admission.hold(0, 1000 * MS) == 0
    holds = [admission.hold(0, 1000 * MS) for _ in range(100)]
    assert holds[:3] == [2 * MS, 4 * MS, 6 * MS]
    assert max(holds) == 50 * MS
    assert admission.hold(0, 10 * MS) == 5 * MS
    assert admission.hold(1000 * MS, None) == 0


async def test_a_batcher_counts_what_runs_and_what_waits() -> None:
    model, clock = Model(), Clock()
    forecast = learned(r1=10)
    batcher = Batcher(
        BatchQueue(policy(1, max_queue=3)), model, ["slot"], forecast=forecast, clock=clock
    )
    tasks = [asyncio.ensure_future(batcher.submit(0, rows=1, key=0))]
    await model.arrival()
    with pytest.raises(Overloaded, match="expected in 20 ms"):
        await batcher.submit(1, rows=1, key=0, deadline=19 * MS)
    tasks.append(asyncio.ensure_future(batcher.submit(2, rows=1, key=0, deadline=20 * MS)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="expected in 30 ms"):
        await batcher.submit(3, rows=1, key=0, deadline=29 * MS)
    tasks += [asyncio.ensure_future(batcher.submit(n, rows=1, key=0)) for n in (4, 5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="maximum queue size") as full:
        await batcher.submit(6, rows=1, key=0)
    assert full.value.retry_after == 0.04
    assert batcher.wait == 40 * MS
    model.open()
    assert [(await task)[0] for task in tasks] == [100, 102, 104, 105]
    assert batcher.running == batcher.wait == 0
    clock.now = 1000 * MS
    # With nothing left to wait for, what was foreseen does not matter.
    assert (await batcher.submit(7, rows=1, key=0, deadline=1001 * MS))[0] == 107
    await batcher.close()


def of_two_levels(model: Model, clock: Clock, rows: int) -> Batcher[int, int, str]:
    """Batches of so many rows, each of which is known to take 10 ms."""
    batches = BatchQueue[Any](policy(rows, priority_levels=2, default_level=2))
    return Batcher(batches, model, ["slot"], forecast=learned(r1=10, r2=10), clock=clock)


def asked(
    batcher: Batcher[int, int, str], item: int, until: int, priority: int, rows: int = 1
) -> "asyncio.Task[tuple[int, Timing]]":
    submitted = batcher.submit(item, rows=rows, key=0, deadline=until * MS, priority=priority)
    return asyncio.ensure_future(submitted)


async def test_who_goes_first_is_not_refused_for_those_whom_it_goes_ahead_of() -> None:
    model, clock = Model(), Clock()
    batcher = of_two_levels(model, clock, rows=1)
    tasks = [asyncio.ensure_future(batcher.submit(0, rows=1, key=0))]
    await model.arrival()
    tasks += [asyncio.ensure_future(batcher.submit(n, rows=1, key=0)) for n in range(1, 5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="expected in 60 ms"):
        await batcher.submit(5, rows=1, key=0, deadline=30 * MS)
    tasks.append(
        asyncio.ensure_future(batcher.submit(6, rows=1, key=0, deadline=30 * MS, priority=1))
    )
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="expected in 30 ms"):
        await batcher.submit(7, rows=1, key=0, deadline=29 * MS, priority=1)
    model.open()
    assert [(await task)[0] for task in tasks] == [100, 101, 102, 103, 104, 106]
    assert model.batches[1] == [6]
    await batcher.close()


async def test_how_late_a_level_is_answered_refuses_nobody_of_a_higher_one() -> None:
    model, clock = Model(), Clock()
    batcher = of_two_levels(model, clock, rows=1)
    ask = partial(asked, batcher)

    late = ask(0, 9000, 2)
    await model.arrival()
    tasks = [ask(1, 9000, 2)]
    await asyncio.sleep(0)
    clock.now = 2000 * MS
    model.release()
    await late
    await model.arrival()
    with pytest.raises(Overloaded):
        await ask(2, 2030, 2)
    tasks.append(ask(3, 2030, 1))
    await asyncio.sleep(0)
    model.open()
    assert [(await task)[0] for task in tasks] == [101, 103]
    await batcher.close()


async def test_of_a_mixed_batch_each_level_is_held_against_what_was_foreseen_for_it() -> None:
    model, clock = Model(), Clock()
    batcher = of_two_levels(model, clock, rows=2)
    ask = partial(asked, batcher)

    tasks = [ask(0, 9000, 2, rows=2)]
    await model.arrival()
    tasks.append(ask(1, 9000, 2))
    await asyncio.sleep(0)
    clock.now = 1000 * MS
    tasks.append(ask(2, 9000, 1))
    await asyncio.sleep(0)
    model.release()
    # The one was foreseen for a second ago, the other for ten milliseconds from now.
    assert await model.arrival() == [2, 1]
    tasks.append(ask(3, 9000, 2, rows=2))
    await asyncio.sleep(0)
    clock.now = 1020 * MS
    model.release()
    await model.arrival()
    with pytest.raises(Overloaded):
        await ask(4, 1060, 2, rows=2)
    tasks.append(ask(5, 1060, 1, rows=2))
    await asyncio.sleep(0)
    model.open()
    assert [(await task)[0] for task in tasks] == [100, 101, 102, 103, 105]
    await batcher.close()
