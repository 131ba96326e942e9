"""Who has waited too long: one timer for all calls, as they expire in the order they were due."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Timeouts(Generic[T]):
    """Calls `expire` with each item whose deadline passes before it is removed.

    Deadlines are nanoseconds of the monotonic clock, added in ascending order; they are met within
    milliseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[T], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._order: deque[tuple[int, T]] = deque()
        self._waiting: set[T] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0

    def add(self, item: T, deadline: int) -> None:
        """Watch an item."""
        self._waiting.add(item)
        self._order.append((deadline, item))
        # A timer may be left of an item that is forgotten, and had more time.
        if self._timer is None or deadline < self._rings_at:
            self._arm()

    def remove(self, item: T) -> None:
        """Forget an item; one that is not watched is forgotten already."""
        self._waiting.discard(item)
        order, waiting = self._order, self._waiting
        while order and order[0][1] not in waiting:
            order.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._order.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._rings_at = self._order[0][0]
        delay = (self._rings_at - time.monotonic_ns()) / 1e9
        self._timer = self._loop.call_later(max(delay, 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = time.monotonic_ns()
        while self._order and self._order[0][0] <= now:
            item = self._order[0][1]
            self.remove(item)
            self._expire(item)
        if self._order:
            self._arm()
