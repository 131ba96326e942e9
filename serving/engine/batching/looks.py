"""For how long a batch waits for requests that are about to be read.

Clients that got their answers together send their next requests together, yet an event loop finds
them in several turns. What the first turn finds would run on its own, at the price of a whole
execution; a further turn costs some microseconds.
"""

from typing import Final

_NS_PER_US: Final = 1000
# Turns without another row after which nobody is about to come.
_QUIET: Final = 4
# Of batches in a row for which turns brought nothing, as those of a client that is alone: all that
# follow wait for one turn, and each that ends another such row looks properly.
_IN_VAIN: Final = 16
# For each row that has come; so a loop that is busy with others keeps nobody waiting.
_PATIENCE: Final = 250 * _NS_PER_US


class Looks:
    """The turns of the loop for which one batch waits; with `goal` rows it waits no longer."""

    def __init__(self, goal: int) -> None:
        self._goal = goal
        self._since: int | None = None
        self._rows = self._quiet = self._in_vain = 0

    def begin(self) -> None:
        """The first request for a batch has come."""
        self._since = None
        self._rows = self._quiet = 0

    def again(self, rows: int, now: int) -> bool:
        """Whether to look once more, now that so many rows wait; to be asked once in a turn."""
        if rows != self._rows:
            if self._rows:
                self._in_vain = 0
            self._rows, self._quiet = rows, 0
        else:
            self._quiet += 1
        if rows >= self._goal:
            return False
        if self._since is None:
            self._since = now
        whole, rest = divmod(self._in_vain, _IN_VAIN)
        if self._quiet >= (1 if whole and rest else _QUIET):
            self._in_vain += 1
            return False
        return now - self._since <= rows * _PATIENCE
