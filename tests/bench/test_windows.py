"""Windows come in turns, quiet rounds are preferred, and ratios are taken round by round."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bench.cases import BINARY, Case
from bench.contestants import Over, Window
from bench.load import Wrong
from bench.windows import WARM_UP_SECONDS, Result, Spread, measure
from tests.bench.windows import window

CASE = Case(BINARY, 32)
SECONDS = WARM_UP_SECONDS + 1


@dataclass
class Played:
    """A contestant whose windows are known beforehand; it writes down when it was asked."""

    name: str
    windows: Iterator[Window]
    calls: list[str] = field(default_factory=list)
    kinds: tuple[str, ...] = (BINARY,)
    connections: list[int] = field(default_factory=list)

    def check(self, case: Case) -> None:
        self.calls.append(f"check {self.name}")

    def window(self, case: Case, seconds: int) -> Window:
        if seconds == WARM_UP_SECONDS:
            self.calls.append(f"warm up {self.name}")
            return window()
        self.calls.append(f"window {self.name}")
        self.connections.append(case.connections)
        return next(self.windows)


def test_answers_are_checked_before_the_first_window_and_windows_are_taken_in_turns() -> None:
    calls: list[str] = []
    played = [Played(name, iter([window(), window()]), calls) for name in "AB"]

    measure(CASE, played, rounds=2, seconds=SECONDS)

    assert calls == [
        *("check A", "warm up A", "check B", "warm up B"),
        *("window A", "window B", "window A", "window B"),
    ]


def test_one_can_stand_beside_itself_with_fewer_connections() -> None:
    played = Played("A", iter([window(10), window(20), window(10), window(20)]))

    result = measure(CASE, [played, Over(played, 8)], rounds=2, seconds=SECONDS)

    assert played.connections == [32, 8, 32, 8]
    assert result.ratio("A, 8 connections", "A", lambda one: one.requests).median == 2


def test_a_wrong_answer_ends_the_run_before_anything_is_measured() -> None:
    class Liar(Played):
        def check(self, case: Case) -> None:
            raise Wrong("/infer answers 7")

    liar = Liar("A", iter([]))

    with pytest.raises(Wrong, match="answers 7"):
        measure(CASE, [liar], rounds=1, seconds=SECONDS)
    assert not liar.calls


def test_noisy_rounds_are_measured_again_and_the_quietest_are_kept_in_order() -> None:
    noises = (0.5, 0.05, 0.3, 0.02)
    one = Played("A", iter([window(requests=n, others=x) for n, x in enumerate(noises)]))

    result = measure(CASE, [one], rounds=2, seconds=SECONDS)

    assert [each.requests for each in result.windows["A"]] == [1, 3]
    assert result.dropped == 2


def test_on_a_machine_that_never_is_quiet_twice_the_rounds_are_enough() -> None:
    one = Played("A", iter([window(others=0.9)] * 4))

    result = measure(CASE, [one], rounds=2, seconds=SECONDS)

    assert len(result.windows["A"]) == 2
    assert result.dropped == 2


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The machine was half as fast in the second round: both noticed.
    result = Result(
        CASE,
        {
            "ours": [window(2000), window(1000), window(2400)],
            "theirs": [window(1000), window(500), window(800)],
        },
    )

    ratio = result.ratio("ours", "theirs", lambda each: each.throughput)

    assert ratio == Spread(median=2.0, least=2.0, most=3.0, n=3)


def test_errors_are_counted_for_those_who_had_any() -> None:
    result = Result(CASE, {"ours": [window()], "theirs": [window(errors=2), window(errors=1)]})

    assert result.errors == {"theirs": 3}


def test_the_cost_of_a_request_is_the_servers_processor_time_over_right_answers() -> None:
    assert window(requests=1000, server=0.5).cost == pytest.approx(500e-6)
