"""What takes its time, in another thread, so that all others are answered meanwhile."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Aside:
    """Runs functions in other threads, at most so many of them `at_once`."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    async def __call__(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises, once there is a place for it."""
        async with self._free:
            return await asyncio.to_thread(function)
