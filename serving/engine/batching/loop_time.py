"""Who may execute on the event loop itself, where the hop to a thread and back costs more."""

from typing import Final

_NS_PER_US: Final = 1000
# With processors to spare, the loop parses while a thread computes; then only what is over before
# the hop would be saves anything. On a single processor the two take turns anyhow.
_LIMIT: Final = 300 * _NS_PER_US
_LIMIT_ALONE: Final = 3000 * _NS_PER_US
# For so long a loop belongs to whoever has executed on it.
_TENURE: Final = 100_000 * _NS_PER_US


class LoopTime:
    """The time of one event loop, shared by all who may execute on it.

    Whatever runs there keeps everything else waiting. So it must be short, and only one model
    does it: of several in use, the others take their threads.
    """

    def __init__(self, processors: int) -> None:
        self._limit = _LIMIT if processors > 1 else _LIMIT_ALONE
        self._owner: object = None
        self._until = 0

    def grant(self, owner: object, duration: int | None, now: int) -> bool:
        """Whether `owner` may execute now, for about `duration` nanoseconds (None: who knows)."""
        if duration is None or duration > self._limit:
            return False
        if owner is not self._owner and now < self._until:
            return False
        self._owner = owner
        self._until = now + _TENURE
        return True

    def release(self, owner: object) -> None:
        """`owner` executes no more: neither the others nor its memory wait for the next one."""
        if owner is self._owner:
            self._owner, self._until = None, 0
