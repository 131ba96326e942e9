"""What cannot be answered in time is refused at once, and only then."""

import asyncio

import pytest

from serving.engine.batching.admission import Admission
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.queue import BatchQueue
from serving.errors import Overloaded
from tests.serving.engine.batching.driving import Clock, Model
from tests.serving.engine.batching.policies import policy

MS = 1_000_000


def learned(**times: int) -> Forecast:
    """`r8=20`: a batch of 8 rows takes 20 ms."""
    forecast = Forecast()
    for rows, milliseconds in times.items():
        forecast.learn(int(rows[1:]), milliseconds * MS)
    return forecast


def is_admitted(admission: Admission, backlog: int, deadline: int | None = None) -> bool:
    try:
        admission.check(1, backlog, 0, None if deadline is None else deadline * MS)
    except Overloaded:
        return False
    return True


@pytest.mark.parametrize(
    ("backlog", "deadline", "admitted"), [(7, 20, True), (7, 19, False), (70, 200, True)]
)
def test_rows_that_are_accepted_run_first_at_the_best_pace(
    backlog: int, deadline: int, admitted: bool
) -> None:
    admission = Admission(learned(r1=5, r8=20), 1)
    assert is_admitted(admission, backlog, deadline) is admitted


def test_a_batch_takes_its_time_however_short_the_backlog() -> None:
    admission = Admission(learned(r1=5, r8=20), 1)
    assert not is_admitted(admission, 1, 4)
    assert is_admitted(admission, 1, 5)


def test_instances_share_the_backlog() -> None:
    forecast = learned(r1=1, r8=16)
    assert not is_admitted(Admission(forecast, 1), 15, 8)
    assert is_admitted(Admission(forecast, 2), 15, 8)


def test_nobody_is_refused_by_what_nothing_is_known_of_or_nothing_runs_against() -> None:
    assert is_admitted(Admission(Forecast(), 1), 1000, 1)
    assert is_admitted(Admission(learned(r1=5000), 1), 0, 1)
    assert is_admitted(Admission(learned(r1=5000), 1), 1000)
    # Whose deadline has passed is refused for that, by the queue.
    assert is_admitted(Admission(learned(r1=5000), 1), 1000, 0)


def test_an_objective_holds_for_all_and_the_earlier_deadline_counts() -> None:
    admission = Admission(learned(r8=8), 1, objective=20 * MS)
    assert is_admitted(admission, 19)
    assert not is_admitted(admission, 20)
    assert not is_admitted(admission, 19, 10)
    assert not is_admitted(admission, 20, 500)


def test_who_is_refused_is_told_when_to_come_again() -> None:
    with pytest.raises(Overloaded, match="expected in 2000 ms, and wanted within 500 ms") as caught:
        Admission(learned(r1=1000), 1).check(1, 1, 0, 500 * MS)
    assert caught.value.retry_after == 1.5


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
    model.open()
    assert [(await task)[0] for task in tasks] == [100, 102, 104, 105]
    assert batcher.running == 0
    clock.now = 1000 * MS
    # With nothing left to wait for, what was foreseen does not matter.
    assert (await batcher.submit(7, rows=1, key=0, deadline=1001 * MS))[0] == 107
    await batcher.close()
