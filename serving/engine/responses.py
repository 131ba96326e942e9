"""The responses to one request, from the thread that makes them to the loop that sends them."""

import asyncio
import threading
from typing import Final, Generic, TypeVar

R = TypeVar("R")

# How far a model may be ahead of its client.
_MAX_WAITING: Final = 256


class Abandoned(Exception):
    """Nobody waits for the responses any more."""


class Responses(Generic[R]):
    """A queue from one thread to one reader on the loop; to be created on the loop.

    Whoever makes responses faster than they are read waits, so that a slow client costs no memory.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[R | None] = asyncio.Queue()
        self._room = threading.Semaphore(_MAX_WAITING)
        self._abandoned = False

    def put(self, response: R) -> None:
        """Hand over a response, in the thread; Abandoned if there is no use for it or another."""
        self._room.acquire()
        if self._abandoned:
            raise Abandoned
        self._loop.call_soon_threadsafe(self._queue.put_nowait, response)

    def end(self) -> None:
        """There will be no more; on the loop, behind all that the thread has handed over."""
        self._queue.put_nowait(None)

    def abandon(self) -> None:
        """There is no use for more; on the loop."""
        self._abandoned = True
        self._room.release()

    async def next(self) -> R | None:
        """The response that follows; None at the end."""
        response = await self._queue.get()
        if response is not None:
            self._room.release()
        return response
