"""Text as it comes into being, and when it has come to where it shall stop."""

from collections.abc import Sequence


class Text:
    """Takes pieces, gives what can be shown of them: nothing that might be part of a stop string.

    `stopped` once one of `stops` has come; neither it nor what follows it is shown.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` are not empty, none of them."""
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """What can be shown, now that `piece` has come."""
        if self.stopped:
            return ""
        self._held += piece
        places = [self._held.find(stop) for stop in self._stops]
        found = [place for place in places if place >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - self._doubtful())

    def finish(self) -> str:
        """What was held back, as no more will come."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _doubtful(self) -> int:
        """How long the end is with which a stop string begins."""
        return max((_overlap(self._held, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    longest = min(len(text), len(stop) - 1)
    lengths = range(longest, 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)
