"""What load generators report is read for what it is."""

from collections import Counter

import numpy as np
import pytest

from bench.load import Wrong, compare, tool
from bench.load_rest import percentile, uncorrected
from bench.machine import Unavailable

SHORT, LONG = 1000, 9500
INTERVAL = 1200


def corrected(counts: dict[int, int], interval: int) -> dict[int, int]:
    """As wrk does it, in the same order: from the shortest latency up."""
    data = Counter(counts)
    for latency in range(2 * interval, max(counts) + 1):
        added = latency - interval
        while data[latency] and added > interval:
            data[added] += data[latency]
            added -= interval
    return {latency: count for latency, count in data.items() if count}


def test_what_wrk_added_for_requests_that_nobody_sent_is_taken_back() -> None:
    measured = {SHORT: 990, 2 * INTERVAL: 3, 2 * INTERVAL + 1: 5, LONG: 2, LONG + 7: 1}
    reported = corrected(measured, INTERVAL)
    assert sum(reported.values()) > sum(measured.values())

    assert uncorrected(reported, INTERVAL) == measured


def test_latencies_that_wrk_did_not_correct_stay_as_they_are() -> None:
    assert uncorrected({SHORT: 5, INTERVAL: 1}, INTERVAL) == {SHORT: 5, INTERVAL: 1}


def test_percentiles_count_every_answer_once() -> None:
    counts = {10: 50, 20: 49, 30: 1}

    assert [percentile(counts, share) for share in (0.5, 0.51, 0.99, 1)] == [10, 20, 20, 30]
    assert percentile({}, 0.5) == 0


def test_a_load_generator_that_is_missing_is_named_with_who_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(Unavailable, match=r"^h2load is not on the PATH: apt-get install nghttp2"):
        tool("h2load")


@pytest.mark.parametrize("wrong", [[[0.5, 0.4]], [[0.5], [0.5]]], ids=["value", "shape"])
def test_an_answer_that_differs_from_the_raw_runtimes_is_refused(wrong: list[list[float]]) -> None:
    expected = np.array([[0.5, 0.5]], np.float32)
    compare(expected + np.float32(1e-5), expected, "/infer")

    with pytest.raises(Wrong, match=r"^/infer answers"):
        compare(np.array(wrong, np.float32), expected, "/infer")
