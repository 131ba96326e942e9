"""One record per version, to which every request and every execution is added once."""

import time

from serving.statistics import (
    DURATION_BOUNDS,
    ROWS_BOUNDS,
    BuildState,
    Duration,
    FailureReason,
    Histogram,
    VersionStatistics,
)
from serving.types import Timing

TIMING = Timing(queue=10, compute_input=2, compute_infer=30, compute_output=4, batch_rows=5)


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((10, 20))
    for value in (0, 10, 11, 20, 21, 1000):
        histogram.add(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum == 1062


def test_the_bounds_ascend_and_reach_from_the_quickest_model_to_the_most_patient_client() -> None:
    for bounds in (DURATION_BOUNDS, ROWS_BOUNDS):
        assert list(bounds) == sorted(set(bounds))
    assert (DURATION_BOUNDS[0], DURATION_BOUNDS[-1]) == (50_000, 10_000_000_000)
    assert (ROWS_BOUNDS[0], ROWS_BOUNDS[-1]) == (1, 1024)


def test_a_success_adds_its_rows_and_the_phases_of_its_batch() -> None:
    statistics = VersionStatistics("m", "1")
    before = time.time_ns() // 1_000_000
    statistics.record_success(3, 100, TIMING)
    statistics.record_success(2, 200, TIMING)
    assert statistics.inference_count == 5
    assert statistics.success == Duration(2, 300)
    assert statistics.queue == Duration(2, 20)
    assert statistics.compute_input == Duration(2, 4)
    assert statistics.compute_infer == Duration(2, 60)
    assert statistics.compute_output == Duration(2, 8)
    assert sum(statistics.request_histogram.counts) == 2
    assert sum(statistics.queue_histogram.counts) == 2
    assert before <= statistics.last_inference <= time.time_ns() // 1_000_000
    assert statistics.execution_count == 0


def test_a_failure_adds_to_its_reason_and_to_no_rows() -> None:
    statistics = VersionStatistics("m", "1")
    statistics.record_failure(FailureReason.CANCELED, 7)
    assert statistics.fail == Duration(1, 7)
    assert statistics.failures == {
        FailureReason.REJECTED: 0,
        FailureReason.CANCELED: 1,
        FailureReason.BACKEND: 0,
        FailureReason.OTHER: 0,
    }
    assert statistics.inference_count == 0
    assert statistics.success.count == 0


def test_executions_are_kept_apart_by_their_rows() -> None:
    statistics = VersionStatistics("m", "1")
    for rows in (5, 1, 5):
        statistics.record_execution(rows, TIMING)
    assert statistics.execution_count == 3
    assert {rows: batch.compute_infer for rows, batch in statistics.batches.items()} == {
        5: Duration(2, 60),
        1: Duration(1, 30),
    }
    assert statistics.rows_histogram.sum == 11
    assert statistics.compute_histogram.sum == 3 * 36
    assert statistics.inference_count == 0


def test_an_answer_from_the_cache_is_a_success_that_no_model_has_computed() -> None:
    statistics = VersionStatistics("m", "1")
    statistics.record_cache_hit(7)
    assert statistics.success == statistics.cache_hit == Duration(1, 7)
    assert statistics.queue == Duration(1, 0)
    assert sum(statistics.request_histogram.counts) == 1
    assert statistics.inference_count == statistics.execution_count == 0
    assert statistics.compute_infer == Duration(0, 0)


def test_what_several_processes_count_now_is_one_sum() -> None:
    one = VersionStatistics("m", "1", pending=2, wait=7, load_duration=3)
    one.acceleration = BuildState.IN_USE
    other = VersionStatistics("m", "1", pending=1, wait=5, load_duration=4)
    other.acceleration = BuildState.REFUSED
    for each in (one, other):
        each.success.add(10)
    one.add(other)
    assert (one.pending, one.wait, one.load_duration) == (3, 5, 4)
    assert (one.success.count, one.acceleration) == (2, BuildState.REFUSED)
    one.add(VersionStatistics("m", "1"))
    assert one.wait == 5
