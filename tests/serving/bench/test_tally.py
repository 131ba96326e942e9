"""Tallies of several processes add up, whatever the length of their windows has become."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.bench.client.tally import OTHERS, WINDOWS, Failure, Recorder, Tally

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND

answers = st.lists(st.tuples(st.integers(0, 2000 * SECOND), st.integers(0, 60 * SECOND)))


def tally_of(counted: list[tuple[int, int]]) -> Tally:
    recorder = Recorder(Tally(), begin=0)
    for due, took in counted:
        recorder.answer(due, took)
    recorder.flush()
    return recorder.tally


@given(answers, answers)
def test_merged_tallies_are_those_of_all_answers(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    merged, whole = tally_of(one), tally_of(one + other)
    merged.merge(tally_of(other))

    assert merged.length == whole.length
    assert np.array_equal(merged.windows, whole.windows)
    assert merged.answered == len(one) + len(other)


@given(answers)
def test_every_answer_is_in_the_window_in_which_it_was_due(counted: list[tuple[int, int]]) -> None:
    tally = tally_of(counted)
    due = np.array([due for due, _ in counted], np.int64) // int(tally.length * SECOND)

    assert np.array_equal(tally.windows.sum(1), np.bincount(due, minlength=WINDOWS))


def test_recent_latencies_are_those_since_somebody_asked() -> None:
    recorder = Recorder(Tally(), begin=0)
    recorder.answer(0, MILLISECOND)
    assert len(recorder.take_recent()) == 1
    recorder.answer(0, MILLISECOND)
    recorder.answer(0, MILLISECOND)

    assert len(recorder.take_recent()) == 2
    assert recorder.tally.answered == 3


def test_failures_that_all_differ_do_not_fill_the_memory() -> None:
    recorder = Recorder(Tally(), begin=0)
    for number in range(1000):
        recorder.failure(0, Failure("HTTP 500", f"request {number} failed"))

    assert len(recorder.tally.failures) < 200
    assert recorder.tally.failures[OTHERS] > 0
    assert recorder.tally.failed == 1000
