"""Of any number of responses to a request each is counted in its place, with the time it took."""

from types import SimpleNamespace

import pytest

from serving.engine import response_counts
from serving.engine.response_counts import ResponseCounts
from serving.errors import Internal
from serving.statistics import FailureReason, Histogram, VersionStatistics
from serving.types import InferenceRequest

MS = 1_000_000
REQUEST = InferenceRequest("m", ())


class Clock:
    """Nanoseconds that pass when a test says so."""

    now = 0

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(response_counts, "time", SimpleNamespace(monotonic_ns=made.monotonic_ns))
    return made


@pytest.fixture
def statistics() -> VersionStatistics:
    return VersionStatistics("m", "1", first_response=Histogram((1.0, 5.0)))


def test_the_first_response_alone_is_counted_from_the_arrival(
    clock: Clock, statistics: VersionStatistics
) -> None:
    counts = ResponseCounts(statistics)
    for clock.now in (3 * MS, 9 * MS, 10 * MS):
        counts.responded()
    assert statistics.first_response is not None
    assert statistics.first_response.counts == [0, 1, 0]


def test_each_response_took_the_time_since_the_one_before_it(
    clock: Clock, statistics: VersionStatistics
) -> None:
    counts = ResponseCounts(statistics)
    for clock.now in (3 * MS, 9 * MS):
        counts.responded()
    assert [statistics.response(place).success.ns for place in (0, 1)] == [3 * MS, 6 * MS]


def test_a_failure_takes_the_place_of_the_response_that_it_kept_away(
    clock: Clock, statistics: VersionStatistics
) -> None:
    counts = ResponseCounts(statistics)
    clock.now = 3 * MS
    counts.responded()
    clock.now = 10 * MS
    with pytest.raises(Internal, match="broke"), counts.failures_of(REQUEST):
        raise Internal("it broke")
    assert statistics.response(1).fail.ns == 7 * MS
    assert statistics.fail.ns == 10 * MS
    assert statistics.failures[FailureReason.BACKEND] == 1
