"""Quantiles of what happened lately, and sums of all that ever did: Prometheus' summaries.

Values are counted in buckets that are at most 1/128 of their value wide, so that counting one costs
an addition and no sorting, and the memory of a summary is bounded by the range of its values.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final

from serving.types import Timing

# As prometheus-cpp's summaries, which Triton uses: the last minute, in steps of a fifth of it.
WINDOW: Final = 60_000_000_000
_SLICES: Final = 5
_SLICE: Final = WINDOW // _SLICES
# Leading bits of a value that tell its bucket.
_BITS: Final = 8


class Summary:
    """Values, whole numbers from 0 on; to be told the time, in nanoseconds that never go back."""

    __slots__ = ("_newest", "_slices", "count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self._newest = -1
        self._slices: deque[tuple[int, Counter[int]]] = deque(maxlen=_SLICES)

    def add(self, value: int, now: int) -> None:
        """Count `value`."""
        self.count += 1
        self.sum += value
        number = now // _SLICE
        if number != self._newest:
            self._newest = number
            self._slices.append((number, Counter()))
        self._slices[-1][1][_bucket(value)] += 1

    def quantiles(self, wanted: Sequence[float], now: int) -> list[float]:
        """The value at each wanted rank from 0 to 1 of the last minute's; NaN if it had none."""
        oldest = now // _SLICE - _SLICES + 1
        counts: Counter[int] = Counter()
        for number, slice in self._slices:
            if number >= oldest:
                counts.update(slice)
        buckets = sorted(counts)
        return _at(wanted, buckets, list(accumulate(counts[bucket] for bucket in buckets)))


class Summaries:
    """The summaries of one model version, in microseconds; those of the cache where it has one.

    With a cache there is no summary of whole requests, as with Triton: a hit is none like others.
    """

    __slots__ = (
        "_clock",
        "cache_hit",
        "cache_miss",
        "compute_infer",
        "compute_input",
        "compute_output",
        "queue",
        "request",
    )

    def __init__(self, clock: Callable[[], int], caches: bool) -> None:
        self._clock = clock
        self.request = None if caches else Summary()
        self.queue = Summary()
        self.compute_input = Summary()
        self.compute_infer = Summary()
        self.compute_output = Summary()
        self.cache_hit = Summary() if caches else None
        self.cache_miss = Summary() if caches else None

    def success(self, total: int, timing: Timing) -> None:
        """Count a request that was answered after `total` nanoseconds."""
        now = self._clock()
        if self.request is not None:
            self.request.add(total // 1000, now)
        self.queue.add(timing.queue // 1000, now)
        self.compute_input.add(timing.compute_input // 1000, now)
        self.compute_infer.add(timing.compute_infer // 1000, now)
        self.compute_output.add(timing.compute_output // 1000, now)

    def hit(self, total: int) -> None:
        """Count a request that the cache answered after `total` nanoseconds."""
        now = self._clock()
        self.queue.add(0, now)
        if self.cache_hit is not None:
            self.cache_hit.add(total // 1000, now)

    def miss(self, elapsed: int) -> None:
        """Count the `elapsed` nanoseconds that a lookup in vain and the insertion took."""
        if self.cache_miss is not None:
            self.cache_miss.add(elapsed // 1000, self._clock())

    def quantiles(self, summary: Summary, wanted: Sequence[float]) -> list[float]:
        """Those of one of these summaries, now."""
        return summary.quantiles(wanted, self._clock())


def _bucket(value: int) -> int:
    """The bucket of a value, ascending with it; small values have one each."""
    shift = value.bit_length() - _BITS
    return value if shift <= 0 else (shift << _BITS) + (value >> shift)


def _middle(bucket: int) -> float:
    """The value in the middle of a bucket."""
    shift, leading = bucket >> _BITS, bucket & (1 << _BITS) - 1
    return (leading << shift) + ((1 << shift) - 1) / 2


def _at(wanted: Iterable[float], buckets: Sequence[int], ranks: Sequence[int]) -> list[float]:
    if not ranks:
        return [math.nan for _ in wanted]
    found = []
    for quantile in wanted:
        rank = max(1, math.ceil(quantile * ranks[-1]))
        place = next(index for index, reached in enumerate(ranks) if reached >= rank)
        found.append(_middle(buckets[place]))
    return found
