"""How long the next execution will take, learned from those that have run."""

from collections.abc import Mapping
from typing import Final

# How much the latest execution counts for: enough to follow a machine that gets busier, too
# little for one stall to change a decision.
_WEIGHT: Final = 0.1
# An answer that is due must not come too late for half of the executions, which take longer than
# the mean: so many mean deviations are allowed for, as TCP does for round trips (RFC 6298).
_DEVIATIONS: Final = 4
# What wakes an event loop counts whole milliseconds; the answer has to be written, too.
_MARGIN: Final = 2_000_000


class Forecast:
    """Execution times by batch size, as exponential means over powers of two of rows."""

    def __init__(self) -> None:
        self._means: dict[int, float] = {}
        self._deviations: dict[int, float] = {}

    def learn(self, rows: int, duration: int) -> None:
        """A batch of `rows` rows took `duration` nanoseconds."""
        size = _size(rows)
        mean = self._means.get(size)
        if mean is None:
            # Nothing is known of how much it varies.
            self._means[size], self._deviations[size] = duration, 0.0
            return
        self._means[size] = mean + _WEIGHT * (duration - mean)
        self._deviations[size] += _WEIGHT * (abs(duration - mean) - self._deviations[size])

    def restart(self, durations: Mapping[int, int]) -> None:
        """Forget all but that batches of so many rows take so many nanoseconds."""
        self._means, self._deviations = {}, {}
        for rows, duration in durations.items():
            self.learn(rows, duration)

    def predict(self, rows: int) -> int | None:
        """Nanoseconds that a batch of `rows` rows will take; None while nothing is known.

        Where no batch of about that size has run, the next larger one stands for it, or else the
        largest in proportion to its rows: rather too long than too short.
        """
        return self._of(rows, self._means)

    @property
    def longest(self) -> int:
        """Nanoseconds that the longest batch will take; 0 while nothing is known."""
        return int(max(self._means.values(), default=0))

    def lead(self, rows: int) -> int:
        """Nanoseconds before its answers are due at which a batch of `rows` rows has to start."""
        mean, deviation = self._of(rows, self._means), self._of(rows, self._deviations)
        return (mean or 0) + _DEVIATIONS * (deviation or 0) + _MARGIN

    def _of(self, rows: int, known: dict[int, float]) -> int | None:
        size = _size(rows)
        value = known.get(size)
        if value is not None:
            return int(value)
        if not known:
            return None
        larger = min((one for one in known if one > size), default=None)
        if larger is not None:
            return int(known[larger])
        largest = max(known)
        return int(known[largest] * 2 ** (size - largest))


def _size(rows: int) -> int:
    """The exponent of the power of two that holds `rows`: 1, 2, 3 to 4, 5 to 8, …"""
    return max(0, rows - 1).bit_length()
