"""Durations counted in buckets of a fixed relative width: the layout of HdrHistogram."""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Durations: TypeAlias = NDArray[np.int64]

# Three significant digits, as HdrHistogram's users know it; and two, for many small histograms.
FINE: Final = 11
COARSE: Final = 7
LONGEST: Final = 2**44 - 1  # ns, nearly five hours; what is longer counts as this


class Histogram:
    """Counts of durations in nanoseconds, each known to `bits` significant bits.

    Up to 2**bits they are exact; beyond, a bucket is at most 2**(1 - bits) of its durations wide.
    `total` (for the mean), `smallest` and `largest` are exact. Memory does not grow with counts.
    """

    __slots__ = ("bits", "counts", "largest", "smallest", "total")

    def __init__(self, bits: int = FINE) -> None:
        self.bits = bits
        self.counts: Durations = np.zeros(size(bits), np.int64)
        self.total = 0
        self.smallest = LONGEST
        self.largest = 0

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, durations: Durations) -> None:
        """Count each of the durations; negative ones count as 0."""
        if not len(durations):
            return
        kept = durations.clip(0, LONGEST)
        self.counts += np.bincount(buckets(kept, self.bits), minlength=len(self.counts))
        self.total += int(kept.sum())
        self.smallest = min(self.smallest, int(kept.min()))
        self.largest = max(self.largest, int(kept.max()))

    def merge(self, other: "Histogram") -> None:
        """Count what `other`, of the same bits, has counted."""
        self.counts += other.counts
        self.total += other.total
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)

    @property
    def mean(self) -> float:
        """The mean in nanoseconds; 0 if nothing was counted."""
        return self.total / max(len(self), 1)

    def percentile(self, percent: float) -> int:
        """The duration that `percent` of the durations do not exceed; 0 if nothing was counted."""
        return min(percentile(self.counts, self.bits, percent), self.largest)

    def within(self, duration: int) -> int:
        """How many durations are in the bucket of `duration` or below it."""
        last = buckets(np.array([min(duration, LONGEST)]), self.bits)[0]
        return int(self.counts[: last + 1].sum())


def percentile(counts: NDArray[Any], bits: int, percent: float) -> int:
    """The largest duration of the bucket in which `percent` of the counts are reached."""
    reached = counts.cumsum()
    # Rounded against the error of the division: 99.9 % of 1000 is the 999th, not the 1000th.
    rank = max(int(np.ceil(round(percent / 100 * int(reached[-1]), 6))), 1)
    if not reached[-1]:
        return 0
    return upper_edge(int(np.searchsorted(reached, rank)), bits)


def size(bits: int) -> int:
    """How many buckets there are."""
    return int(buckets(np.array([LONGEST]), bits)[0]) + 1


def buckets(durations: Durations, bits: int) -> Durations:
    """The index of each duration's bucket: its leading `bits` bits, and how many follow them."""
    _, lengths = np.frexp(durations)  # exact, as durations have less than 53 bits
    shift = np.maximum(lengths - bits, 0)
    found: Durations = (shift.astype(np.int64) << (bits - 1)) + (durations >> shift)
    return found


def upper_edge(bucket: int, bits: int) -> int:
    """The largest duration that falls into `bucket`."""
    shift = max((bucket >> (bits - 1)) - 1, 0)
    return ((bucket - (shift << (bits - 1)) + 1) << shift) - 1
