"""Objectives are read as they are written, and judged by what was measured."""

from dataclasses import dataclass

import pytest

from serving.bench.slo import Objective, complete, good_within, judge, parse


@dataclass
class Measured:
    answered: int = 1000
    errors: float = 0.0
    throughput: float = 500.0
    goodput: float = 450.0
    p99: float = 0.010

    def latency(self, name: str) -> float:
        return {"p99": self.p99, "mean": 0.002, "max": 0.100}[name]


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("p99=10ms", "p99", 0.010),
        ("p99.9 <= 1.5s", "p99.9", 1.5),
        ("mean=250us", "mean", 0.00025),
        ("errors=0.1%", "errors", 0.001),
        ("errors=0", "errors", 0.0),
        ("throughput>=500/s", "throughput", 500.0),
        ("goodput=20", "goodput", 20.0),
    ],
)
def test_an_objective_is_a_figure_and_its_bound(text: str, name: str, bound: float) -> None:
    objective = parse(text)

    assert objective.name == name
    assert objective.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fast", "expected p99=10ms"),
        ("p99=10", "with its unit"),
        ("p99=0ms", "above 0"),
        ("p100=1s", "no figure"),
        ("q50=1s", "no figure"),
        ("errors=101%", "a share"),
        ("errors=2", "a share"),
        ("throughput=5ms", "requests per second"),
        ("p99=1.2.3ms", "a number"),
        ("p99>10ms", "p99 is to be at most what is said"),
        ("errors>=1%", "errors is to be at most what is said"),
        ("throughput<=500/s", "throughput is to be at least what is said"),
    ],
)
def test_what_is_no_objective_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("p99=10ms", True),
        ("p99=9.9ms", False),
        ("max=100ms", True),
        ("throughput=500/s", True),
        ("throughput=501/s", False),
        ("goodput=451/s", False),
        ("errors=0%", True),
    ],
)
def test_a_bound_itself_is_met(text: str, met: bool) -> None:
    (verdict,) = judge([parse(text)], Measured())

    assert verdict.met is met


def test_nothing_may_fail_unless_it_is_said_how_much() -> None:
    names = [each.text for each in complete([parse("p99=10ms")])]

    assert names == ["p99=10ms", "errors=0%"]
    assert complete([parse("errors=1%")]) == (parse("errors=1%"),)
    assert complete([]) == ()


def test_latencies_of_no_answers_meet_no_bound() -> None:
    (verdict,) = judge([parse("p99=10ms")], Measured(answered=0, p99=0.0))

    assert not verdict.met


def test_an_answer_is_good_within_the_loosest_bound_on_one_answer() -> None:
    assert good_within([parse("p50=5ms"), parse("p99=20ms"), parse("mean=1s")]) == 0.020
    assert good_within([parse("errors=1%")]) is None


def test_goodput_needs_a_latency() -> None:
    with pytest.raises(ValueError, match="add one, such as p99=10ms"):
        complete([parse("goodput=10/s")])


def test_it_is_known_how_many_answers_a_percentile_takes() -> None:
    texts = ("p50=1s", "p90=1s", "p97=1s", "p99.9=1s", "p99.9999=1s", "mean=1s")
    assert [parse(text).least for text in texts] == [2, 10, 34, 1000, 1_000_000, 1]
    assert isinstance(parse("p99=1s"), Objective)
