"""Who comes too late to be answered in time: told at once, rather than after a vain wait.

Beyond saturation a queue that takes everybody answers nobody in time: it computes what is not
wanted any more. Whoever is refused at once can go elsewhere, and the others keep their time.
"""

from serving.engine.batching.forecast import Forecast
from serving.errors import Overloaded

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


class Admission:
    """Foresees when requests will be answered, from what is accepted and how long that takes.

    `objective` is within how many nanoseconds requests shall be answered; 0: whenever their
    deadlines allow. `instances` is how many batches run at a time.
    """

    def __init__(self, forecast: Forecast, instances: int, objective: int = 0) -> None:
        self._forecast = forecast
        self._instances = instances
        self._objective = objective

    def wait(self, rows: int) -> int:
        """Nanoseconds until `rows` accepted rows have run, as far as is known."""
        return (self._forecast.drain(rows) or 0) // self._instances

    def check(self, rows: int, backlog: int, now: int, deadline: int | None) -> None:
        """Overloaded if `rows` more behind a backlog of so many will not be answered in time.

        Nobody is refused while there is no backlog: what is foreseen may be wrong, and only what
        runs can show it. Nor is who was too late before: that is another error, for others to say.
        """
        allowed = self._allowed(now, deadline)
        if allowed is None or allowed <= 0 or not backlog:
            return
        alone = self._forecast.predict(rows) or 0
        expected = max(alone, self.wait(backlog + rows))
        if expected > allowed:
            raise Overloaded(
                f"the answer is expected in {expected / _NS_PER_MS:.0f} ms, and wanted within "
                f"{allowed / _NS_PER_MS:.0f} ms",
                retry_after=(expected - allowed) / _NS_PER_S,
            )

    def due(self, now: int, deadline: int | None) -> int | None:
        """When the answer to a request that comes now is wanted; None: whenever it is there."""
        allowed = self._allowed(now, deadline)
        return None if allowed is None else now + allowed

    def _allowed(self, now: int, deadline: int | None) -> int | None:
        """Nanoseconds from now in which the answer is of use; None: any time."""
        if deadline is None:
            return self._objective or None
        return min(self._objective, deadline - now) if self._objective else deadline - now
