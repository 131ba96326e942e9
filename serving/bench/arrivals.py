"""When requests of an open loop are due, whatever became of those before them.

Each process of arrivals yields times in nanoseconds after its begin, ascending, without an end.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count, islice
from typing import Final

_SECOND: Final = 1_000_000_000


class Shape(Enum):
    """How arrivals are spread over time."""

    POISSON = "poisson"
    CONSTANT = "constant"
    RAMP = "ramp"
    BURST = "burst"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Arrivals at `rate` requests per second.

    `poisson`   independent of each other, as those of many users are; `seed` makes them repeatable
    `constant`  at equal distances
    `ramp`      the rate rises (or falls) from `start` to `rate`: it stays at `start` for `hold`
                seconds, changes evenly for `rise` seconds, and stays at `rate`
    `burst`     `burst` of them at the same time, at equal distances
    """

    shape: Shape
    rate: float
    seed: int = 0
    burst: int = 1
    start: float = 0.0
    hold: float = 0.0
    rise: float = 0.0

    def times(self, part: int = 0, parts: int = 1) -> Iterator[int]:
        """Every `parts`-th arrival from the `part`-th on: all parts together are all arrivals."""
        return islice(self._all(), part, None, parts)

    def _all(self) -> Iterator[int]:
        match self.shape:
            case Shape.POISSON:
                return self._poisson()
            case Shape.RAMP:
                return (int(_SECOND * self._ramped(index)) for index in count())
            case Shape.BURST:
                period = _SECOND * self.burst / self.rate
                return (int(index // self.burst * period) for index in count())
            case Shape.CONSTANT:
                return (int(_SECOND * index / self.rate) for index in count())

    def _poisson(self) -> Iterator[int]:
        draw = random.Random(self.seed).expovariate
        at = 0.0
        while True:
            at += draw(self.rate)
            yield int(_SECOND * at)

    def _ramped(self, index: int) -> float:
        """The second at which `index` requests are due: the inverse of the rate's integral."""
        held = self.start * self.hold
        if index <= held:
            return index / self.start
        risen = index - held
        if risen >= self.rise * (self.start + self.rate) / 2:
            over = risen - self.rise * (self.start + self.rate) / 2
            return self.hold + self.rise + over / self.rate
        slope = (self.rate - self.start) / self.rise
        # start * t + slope * t**2 / 2 = risen, solved in the form that does not cancel.
        root = math.sqrt(max(self.start**2 + 2 * slope * risen, 0.0))
        return self.hold + 2 * risen / (self.start + root)
