"""How long the next execution will take, learned from those that have run."""

from typing import Final

# How much the latest execution counts for: enough to follow a machine that gets busier, too
# little for one stall to change a decision.
_WEIGHT: Final = 0.1


class Forecast:
    """Execution times by batch size, as exponential means over powers of two of rows."""

    def __init__(self) -> None:
        self._means: dict[int, float] = {}

    def learn(self, rows: int, duration: int) -> None:
        """A batch of `rows` rows took `duration` nanoseconds."""
        size = _size(rows)
        mean = self._means.get(size)
        self._means[size] = duration if mean is None else mean + _WEIGHT * (duration - mean)

    def predict(self, rows: int) -> int | None:
        """Nanoseconds that a batch of `rows` rows will take; None while nothing is known.

        Where no batch of about that size has run, the next larger one stands for it, or else the
        largest in proportion to its rows: rather too long than too short.
        """
        size = _size(rows)
        known = self._means.get(size)
        if known is not None:
            return int(known)
        if not self._means:
            return None
        larger = min((one for one in self._means if one > size), default=None)
        if larger is not None:
            return int(self._means[larger])
        largest = max(self._means)
        return int(self._means[largest] * 2 ** (size - largest))

    def drain(self, rows: int) -> int | None:
        """Nanoseconds that `rows` rows will take at the best pace seen; None while none is."""
        paces = (mean / 2**size for size, mean in self._means.items())
        pace = min(paces, default=None)
        return None if pace is None else int(rows * pace)


def _size(rows: int) -> int:
    """The exponent of the power of two that holds `rows`: 1, 2, 3 to 4, 5 to 8, …"""
    return max(0, rows - 1).bit_length()
