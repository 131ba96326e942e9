"""When the requests of an open loop are due: a Poisson process whose rate follows a shape."""

import random

from penstock_load.shapes import level


class Arrivals:
    """Independent arrivals at `peak` per second times the shape's level, over `duration` seconds.

    After `duration` the last level holds.
    """

    def __init__(self, peak: float, shape: str, duration: float, source: random.Random) -> None:
        self._peak = peak
        self._shape = shape
        self._duration = duration
        self._random = source

    def after(self, moment: float) -> float:
        """The next arrival's time after `moment`, both in seconds since the test began."""
        # Thinning: candidates come at the peak's rate, and the level says how likely one is kept.
        while True:
            moment += self._random.expovariate(self._peak)
            if self._random.random() < level(self._shape, moment / self._duration):
                return moment
