"""A worker's connection to the engine: questions and their answers, now and after a new start."""

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from serving.errors import Unavailable
from serving.types import Array
from serving.workers import door, failures
from serving.workers.channel import Channel, Message
from serving.workers.sharing import Change

logger = logging.getLogger("penstock.workers")

# In seconds: about how long a new start takes.
RETRY_AFTER: Final = 1.0
# In seconds, before a connection that could not be made is tried again.
_PAUSE: Final = 0.1


class Lost(Unavailable):
    """The engine is not there, or has gone with what it had in hand."""


class Link:
    """Asks the engine behind the door; to be used on one event loop.

    `changed` is called when the engine has come, has gone, or says that something is other than
    before; `apply` is given each change that all workers are to make. Whoever waits for an answer
    as the engine goes gets Lost, as does whoever asks before it is back.
    """

    def __init__(
        self,
        outside: socket.socket,
        changed: Callable[[], None],
        apply: Callable[[Change], None],
    ) -> None:
        self._outside = outside
        self._changed = changed
        self._apply = apply
        self._channel: Channel | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tickets = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.is_up = asyncio.Event()
        self._closing = False

    def open(self) -> None:
        """Begin to connect, as will be done again whenever the engine has gone."""
        self._connecting = asyncio.create_task(self._connect())

    def close(self) -> None:
        """End the connection; what is still asked is not answered any more."""
        self._closing = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._channel is not None:
            self._channel.close()

    def content(self, array: Array) -> Any:
        """What stands for `array` in a question, which is to be asked at once."""
        if self._channel is None or not self.is_up.is_set():
            return array  # It will not be asked.
        return self._channel.content(array)

    async def ask(self, verb: str, *values: Any) -> Any:
        """The answer to one question; raises what the engine raised."""
        ticket = next(self._tickets)
        try:
            _, answer = await self._send(ticket, verb, *values)
            return answer
        finally:
            self._forget(ticket)

    async def follow(self, verb: str, *values: Any) -> AsyncGenerator[Any, None]:
        """The answers to a question that has any number, each of them once it is asked for."""
        ticket = next(self._tickets)
        try:
            kind, answer = await self._send(ticket, verb, *values)
            while kind == "part":
                yield answer
                kind, answer = await self._send(ticket, "next")
            if kind == "last":
                yield answer
        finally:
            self._forget(ticket)

    def _send(self, ticket: int, verb: str, *values: Any) -> "asyncio.Future[Any]":
        # A next part can only come from the engine that gave the one before.
        is_there = ticket in self._waiting if verb == "next" else self.is_up.is_set()
        if self._channel is None or not is_there:
            raise _gone()
        waiting = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._channel.send(ticket, verb, *values)
        return waiting

    def _forget(self, ticket: int) -> None:
        """Have no more work done for that question, if it is not answered."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None and self._channel is not None:
            self._channel.send(ticket, "cancel")

    async def _connect(self) -> None:
        while self._channel is None:
            try:
                self._channel = await door.knock(
                    self._outside, lambda: Channel(self._received, self._lost)
                )
            except OSError as error:
                # Such as for want of descriptors, of which connections have as many for a while.
                logger.error("the engine cannot be reached, trying again: %s", error)
                await asyncio.sleep(_PAUSE)

    def _received(self, message: Message) -> None:
        ticket, kind, value = message
        if kind == "apply":
            self._apply(value)
            if self._channel is not None:
                self._channel.send(ticket, "applied")
        elif kind in ("hello", "changed"):
            self.is_up.set()
            self._changed()
        else:
            self._answer(ticket, kind, value)

    def _answer(self, ticket: int, kind: str, value: Any) -> None:
        waiting = self._waiting.get(ticket)
        if kind != "part":
            self._waiting.pop(ticket, None)
        if waiting is None or waiting.done():
            return
        if kind == "failed":
            waiting.set_exception(failures.to_error(value))
        else:
            waiting.set_result((kind, value))

    def _lost(self) -> None:
        self._channel = None
        self.is_up.clear()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.done():
                one.set_exception(_gone())
        if not self._closing:
            self.open()
            self._changed()


def _gone() -> Lost:
    return Lost("the engine has stopped and is being started again", RETRY_AFTER)
