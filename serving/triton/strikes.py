"""Models that a server answers with nothing but failures, though it says that it is ready.

A GPU that is lost fails every execution at once, so that the server has the fewest calls in hand,
and would draw all requests.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

logger = logging.getLogger("penstock.triton")

# Failures in a row, and the seconds for which others are asked first, until one request tries.
_LIMIT: Final = 3
_REST: Final = 5.0


@dataclass(slots=True)
class _Strikes:
    """Failures in a row, and until when others are asked first."""

    count: int = 0
    until: float = 0.0


class Strikes:
    """The failures of one server, for each model that has failed since it last answered."""

    def __init__(self, server: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`server` is what the log calls it; `clock` is of seconds."""
        self._server = server
        self._clock = clock
        self._models: dict[str, _Strikes] = {}

    def failed(self, model: str) -> None:
        """The server has failed to execute the model."""
        strikes = self._models.setdefault(model, _Strikes())
        strikes.count += 1
        strikes.until = self._clock() + _REST
        if strikes.count == _LIMIT:
            logger.warning(
                "%s fails every request to %s: other servers are asked first", self._server, model
            )

    def answered(self, model: str) -> None:
        """The server has executed the model."""
        strikes = self._models.pop(model, None)
        if strikes is not None and strikes.count >= _LIMIT:
            logger.info("%s answers requests to %s again", self._server, model)

    def are_out(self, model: str) -> bool:
        """Whether others are to be asked first."""
        strikes = self._models.get(model)
        return strikes is not None and strikes.count >= _LIMIT and self._clock() < strikes.until

    def tried(self, model: str) -> None:
        """A request goes to the server: others wait for what becomes of it."""
        strikes = self._models.get(model)
        if strikes is not None and strikes.count >= _LIMIT:
            strikes.until = self._clock() + _REST
