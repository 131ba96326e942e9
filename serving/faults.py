"""Executions that fail, as the log tells of them: whoever asked is told why, and so must we be."""

import logging
import time
from collections.abc import Callable
from typing import Final

from serving.errors import ServingError

logger = logging.getLogger("penstock.engine")

# Between two lines about one version: it may fail as often as it is asked.
_PAUSE: Final = 10_000_000_000


class Faults:
    """The failed executions of one executor: a line for the first, and then for many."""

    def __init__(self, what: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`what` executes, by the name that the log has for it; `clock` is of nanoseconds."""
        self._what = what
        self._clock = clock
        self._quiet_until = 0
        self._untold = 0

    def tell(self, error: ServingError) -> None:
        """An execution has failed so."""
        now = self._clock()
        if now < self._quiet_until:
            self._untold += 1
            return
        others = f" (and {self._untold} more since the last line)" if self._untold else ""
        logger.error("%s: %s%s", self._what, error.message, others)
        self._quiet_until, self._untold = now + _PAUSE, 0
