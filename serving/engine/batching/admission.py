"""Who comes too late to be answered in time: told at once, rather than after a vain wait.

Beyond saturation a queue that takes everybody answers nobody in time: it computes what is not
wanted any more. Whoever is refused at once can go elsewhere, and the others keep their time.

An answer is foreseen from the batches before it, as large as they have been lately: under load
those who come later join a batch and make it longer. What that leaves out (threads that share a
processor, the event loop's own work) shows in the answers that came later than foreseen, and is
allowed for much as TCP allows for the variation of round trips (RFC 6298).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, NamedTuple

from serving.engine.batching.forecast import Forecast
from serving.errors import Overloaded

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
# How much the latest batch counts for.
_WEIGHT: Final = 0.1
# One answer in a hundred may be later: lateness comes in bursts, of which four deviations, as TCP
# allows for, leave out more. At eight, batches get shorter, and what is answered less.
_DEVIATIONS: Final = 6
# Refusals cost processor time as well, and clients that try again at once can ask for any number.
_PACE: Final = 2 * _NS_PER_MS
_LONGEST_HOLD: Final = 50 * _NS_PER_MS


class Line(NamedTuple):
    """A request and what is before it: rows and batches that wait, both with its own.

    `free_at` is when an instance will be free, `idle` whether one is and nobody waits before it.
    Its `level` is overtaken by the higher ones, so that each is late by another time.
    """

    rows: int
    batches: int
    free_at: int
    idle: bool
    level: int = 0


@dataclass(slots=True)
class _Lateness:
    """By how much answers have come later than foreseen: a mean, and a mean deviation of it."""

    error: float = 0.0
    deviation: float = 0.0

    @property
    def slack(self) -> int:
        """Nanoseconds to allow for beyond what is foreseen."""
        return max(0, int(self.error + _DEVIATIONS * self.deviation))

    def learn(self, late: int) -> None:
        self.deviation += _WEIGHT * (abs(late - self.error) - self.deviation)
        self.error += _WEIGHT * (late - self.error)


class Admission:
    """Foresees when requests will be answered, from what is accepted and how long that takes.

    `objective` is within how many nanoseconds requests shall be answered; 0: whenever their
    deadlines allow. `instances` is how many batches run at a time.
    """

    def __init__(self, forecast: Forecast, instances: int, objective: int = 0) -> None:
        self._forecast = forecast
        self._instances = instances
        self._objective = objective
        self._size = 0.0  # rows of a batch, lately
        self._lateness: defaultdict[int, _Lateness] = defaultdict(_Lateness)  # by level
        self._refusal_at = -_PACE

    def end(self, line: Line) -> int:
        """When all in that line will have run, as far as is known."""
        if not line.batches:
            return line.free_at
        size = max(-(-line.rows // line.batches), round(self._size))
        duration = self._forecast.predict(size) or 0
        return line.free_at + (line.batches - 1) * duration // self._instances + duration

    def check(self, line: Line, now: int, deadline: int | None) -> int:
        """When the answer to the last in that line is foreseen; Overloaded if that is too late.

        Nobody is refused while there is nobody before: what is foreseen may be wrong, and only what
        runs can show it. Nor is who was too late before: that is another error, for others to say.
        """
        end = self.end(line)
        allowed = self._allowed(now, deadline)
        if allowed is None or allowed <= 0 or line.idle:
            return end
        expected = end + self._lateness[line.level].slack - now
        if expected > allowed:
            raise Overloaded(
                f"the answer is expected in {expected / _NS_PER_MS:.0f} ms, and wanted within "
                f"{allowed / _NS_PER_MS:.0f} ms",
                retry_after=(expected - allowed) / _NS_PER_S,
            )
        return end

    def learn_size(self, rows: int) -> None:
        """A batch of `rows` rows has been answered."""
        if not self._size:
            self._size = rows
        self._size += _WEIGHT * (rows - self._size)

    def learn_error(self, late: int, level: int = 0) -> None:
        """Somebody of `level` has been answered so many nanoseconds after it was foreseen."""
        self._lateness[level].learn(late)

    def due(self, now: int, deadline: int | None) -> int | None:
        """When the answer to a request that comes now is wanted; None: whenever it is there."""
        if not self._objective:
            return deadline
        wanted = now + self._objective
        return wanted if deadline is None else min(wanted, deadline)

    def hold(self, now: int, deadline: int | None) -> int:
        """Nanoseconds until a refusal should be told: none, unless others were a moment ago.

        Whoever is told tries again elsewhere, or here at once. The latter would take all the time
        from those who are served, if every refusal were told as soon as it is made.
        """
        self._refusal_at = max(now, self._refusal_at + _PACE)
        allowed = self._allowed(now, deadline)
        longest = _LONGEST_HOLD if allowed is None else min(max(allowed, 0) // 2, _LONGEST_HOLD)
        self._refusal_at = min(self._refusal_at, now + longest)
        return self._refusal_at - now

    def _allowed(self, now: int, deadline: int | None) -> int | None:
        """Nanoseconds from now in which the answer is of use; None: any time."""
        if deadline is None:
            return self._objective or None
        return min(self._objective, deadline - now) if self._objective else deadline - now
