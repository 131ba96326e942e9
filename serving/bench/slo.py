"""Service level objectives, such as `p99=10ms` and `errors=0.1%`, and whether they hold."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

_TEXT: Final = re.compile(
    r"(?P<name>[a-z]+[\d.]*)\s*(?P<sign>=|<=|>=|<|>)\s*(?P<value>[\d.]+)(?P<unit>.*)"
)
_PERCENTILE: Final = re.compile(r"p(\d+(?:\.\d+)?)")
_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_RATES: Final = ("throughput", "goodput")
_FORMS: Final = "p99=10ms, mean=5ms, max=1s, errors=0.1%, throughput=500/s or goodput=500/s"


class Measured(Protocol):
    """What objectives are held against; durations in seconds, rates per second, shares of 1."""

    @property
    def answered(self) -> int:
        """Right answers."""

    @property
    def errors(self) -> float:
        """The share of requests that have none."""

    @property
    def throughput(self) -> float:
        """Right answers per second."""

    @property
    def goodput(self) -> float:
        """Those that came in time, per second."""

    def latency(self, name: str) -> float:
        """The percentile such as `p99.9`, or `mean` or `max`."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A bound on one figure: an upper one in seconds or as a share, or a lower one per second."""

    name: str
    bound: float
    text: str

    @property
    def is_latency(self) -> bool:
        """True for a bound on latencies."""
        return self.name != "errors" and self.name not in _RATES

    @property
    def least(self) -> int:
        """How many answers it takes to say something of this figure at all."""
        percentile = _PERCENTILE.fullmatch(self.name)
        return answers_for(float(percentile[1])) if percentile else 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured of an objective, and whether that meets it."""

    objective: Objective
    measured: float
    met: bool


NO_ERRORS: Final = Objective("errors", 0.0, "errors=0%")


def answers_for(percent: float) -> int:
    """How many answers it takes until a percentile is another than the slowest of them."""
    # Rounded against the error of the subtraction: 99.9 % takes 1000 of them, not 1001.
    return math.ceil(round(100 / (100 - percent), 6))


def parse(text: str) -> Objective:
    """The objective of a text; ValueError says what it may be."""
    found = _TEXT.fullmatch(text.strip())
    if not found:
        raise ValueError(f"expected {_FORMS}, got {text!r}")
    name, unit = found["name"], found["unit"].strip()
    if found["sign"][0] == ("<" if name in _RATES else ">"):
        side = "at least" if name in _RATES else "at most"
        raise ValueError(f"{name} is to be {side} what is said: expected = in {text!r}")
    try:
        value = float(found["value"])
    except ValueError:
        raise ValueError(f"expected a number in {text!r}, got {found['value']!r}") from None
    return Objective(name, _bound(name, value, unit, text), text.strip())


def _bound(name: str, value: float, unit: str, text: str) -> float:
    if name in _RATES:
        return _rate(value, unit, text)
    if name == "errors":
        share = value / 100 if unit == "%" else value
        if unit not in ("", "%") or not 0 <= share <= 1:
            raise ValueError(f"expected a share such as 0.1% (or 0.001) in {text!r}")
        return share
    percentile = _PERCENTILE.fullmatch(name)
    if name not in ("mean", "max") and not (percentile and 0 < float(percentile[1]) < 100):
        raise ValueError(f"{name!r} is no figure to have an objective for: expected {_FORMS}")
    if unit not in _SECONDS or not value:
        raise ValueError(f"expected a time above 0 with its unit (s, ms, us) in {text!r}")
    return value * _SECONDS[unit]


def _rate(value: float, unit: str, text: str) -> float:
    if unit not in ("", "/s"):
        raise ValueError(f"expected requests per second, such as 500/s, in {text!r}")
    return value


def complete(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """The objectives, and that nothing fails unless one of them says how much may.

    Latencies are those of answers: without a bound on errors, a server that refuses quickly would
    meet any objective. Raises ValueError where goodput has no latency to be good by.
    """
    names = {objective.name for objective in objectives}
    if "goodput" in names and good_within(objectives) is None:
        raise ValueError("goodput counts answers within a latency: add one, such as p99=10ms")
    return (*objectives, *([NO_ERRORS] if objectives and "errors" not in names else ()))


def good_within(objectives: Sequence[Objective]) -> float | None:
    """The latency in seconds up to which an answer is a good one: the loosest bound on one answer.

    None without a bound on a percentile or the maximum.
    """
    bounds = [each.bound for each in objectives if each.is_latency and each.name != "mean"]
    return max(bounds, default=None)


def judge(objectives: Sequence[Objective], measured: Measured) -> tuple[Verdict, ...]:
    """A verdict on each; without any answer no bound on latencies is met."""
    return tuple(_judge(objective, measured) for objective in objectives)


def _judge(objective: Objective, measured: Measured) -> Verdict:
    if objective.name in _RATES:
        rate = measured.throughput if objective.name == "throughput" else measured.goodput
        return Verdict(objective, rate, rate >= objective.bound)
    if objective.name == "errors":
        return Verdict(objective, measured.errors, measured.errors <= objective.bound)
    latency = measured.latency(objective.name)
    return Verdict(objective, latency, measured.answered > 0 and latency <= objective.bound)
