"""How much load there is while a test runs, as a share of its peak.

In a closed loop the peak is the number of users (`--users`), in an open one the rate (`--rate`).
"""

from collections.abc import Callable, Mapping
from typing import Final

STEPS: Final = 5
# Of a spike: the share of the peak before and after it, and the part of the time that it takes.
_CALM: Final = 0.2
_SPIKE: Final = (0.4, 0.6)


def _constant(_: float) -> float:
    return 1.0


def _ramp(passed: float) -> float:
    return passed


def _steps(passed: float) -> float:
    return (int(passed * STEPS) + 1) / STEPS


def _spike(passed: float) -> float:
    begin, end = _SPIKE
    return 1.0 if begin <= passed < end else _CALM


SHAPES: Final[Mapping[str, Callable[[float], float]]] = {
    "constant": _constant,
    "ramp": _ramp,
    "steps": _steps,
    "spike": _spike,
}


def level(shape: str, passed: float) -> float:
    """The share of the peak, 0 to 1, when the share `passed` of the time has passed.

    What is late gets the last level.
    """
    return min(SHAPES[shape](min(max(passed, 0.0), 1.0)), 1.0)
