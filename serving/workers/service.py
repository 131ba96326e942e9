"""The engine as the process has it that all workers ask: its verbs, told over channels."""

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from serving.engine.base import Around, Engine
from serving.errors import UNEXPECTED, Internal, ServingError
from serving.workers import door, failures, inference, records
from serving.workers.channel import Channel, Message
from serving.workers.sharing import Change, Sharing

logger = logging.getLogger("penstock.workers")

_BUG: Final = Internal(UNEXPECTED)
# The verbs whose arguments and answers are records.
_PLAIN: Final = (
    "ready",
    "metadata",
    "model_ready",
    "model_metadata",
    "labels",
    "statistics",
    "cache_statistics",
    "servers",
    "unloaded",
    "outdated",
    "index",
    "load",
    "unload",
    "finish_sequences",
)


class Service(Around):
    """`engine` for the workers who come through the door, and for this process's own gateway."""

    def __init__(
        self, engine: Engine, inside: socket.socket, sharing: Sharing, patience: int
    ) -> None:
        """`patience` is how many seconds the engine has to close; it has one at least."""
        super().__init__(engine)
        self._inside = inside
        self._sharing = sharing
        self._patience = patience
        self._desks: set[_Desk] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._answering: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        engine.watch(self.changed)

    def open(self) -> None:
        """Let the workers in."""
        self._answering = asyncio.create_task(door.answer(self._inside, self._desk))

    def start(self) -> None:
        """The engine has come to the end of its start."""
        self._started.set()
        self.changed()

    async def finish_sequences(self) -> None:
        """Wait until all workers have gone, who have sequences to finish and requests to answer."""
        await self._empty.wait()

    async def close(self) -> None:
        """Let nobody in any more, and close the engine."""
        if self._answering is not None:
            self._answering.cancel()
        try:
            await asyncio.wait_for(self._inner.close(), max(1, self._patience))
        except TimeoutError:
            logger.error(
                "models still run after --exit-timeout-secs=%d; stopping all the same",
                self._patience,
            )

    def _desk(self) -> Channel:
        desk = _Desk(self._inner, self._sharing, self._started, self._left)
        for change in self._sharing.changes:
            desk.tell(change)
        desk.channel.send(0, "hello", None)
        self._sharing.add(desk.tell)
        self._desks.add(desk)
        self._empty.clear()
        return desk.channel

    def _left(self, desk: "_Desk") -> None:
        self._sharing.discard(desk.tell)
        self._desks.discard(desk)
        if not self._desks:
            self._empty.set()

    def changed(self) -> None:
        """Tell all workers that what is ready may be other than before."""
        for desk in self._desks:
            desk.channel.send(0, "changed", None)


class _Desk:
    """Where one worker's questions are answered; what is asked when it goes is done no further."""

    def __init__(
        self,
        engine: Engine,
        sharing: Sharing,
        started: asyncio.Event,
        left: Callable[["_Desk"], None],
    ) -> None:
        self._run = engine.infer
        self._runs = engine.stream
        self._engine: Any = engine
        self._configuration = engine.model_config
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        # Of answers that have several parts: the next one is wanted.
        self._wanted: dict[int, asyncio.Event] = {}
        # Changes that the worker has been told of, and has not made yet.
        self._told: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count(1)
        self.channel = Channel(self._received, self._lost)
        self._verbs: Mapping[str, Callable[..., Awaitable[Any]]] = {
            "infer": self._infer,
            "model_config": self._model_config,
            "share": sharing.change,
            "apply": sharing.adopt,
            "started": started.wait,
            **{verb: partial(self._plain, getattr(engine, verb)) for verb in _PLAIN},
        }

    def tell(self, change: Change) -> "asyncio.Future[None]":
        """Have the worker make the change; done when it has, or has gone."""
        number = next(self._numbers)
        made = self._told[number] = self._loop.create_future()
        self.channel.send(number, "apply", change)
        return made

    def _received(self, message: Message) -> None:
        ticket, verb, *values = message
        if verb == "applied":
            self._made(self._told.pop(ticket))
            return
        if verb == "next":
            if ticket in self._wanted:
                self._wanted[ticket].set()
        elif verb == "cancel":
            # What has not begun never comes to its end, where it would be taken out as well.
            if task := self._tasks.pop(ticket, None):
                task.cancel()
        else:
            self._tasks[ticket] = self._loop.create_task(self._answer(ticket, verb, values))

    def _lost(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for made in self._told.values():
            self._made(made)
        self._left(self)

    @staticmethod
    def _made(made: "asyncio.Future[None]") -> None:
        # Whoever asked for the change may have gone.
        if not made.done():
            made.set_result(None)

    async def _answer(self, ticket: int, verb: str, values: list[Any]) -> None:
        send = self.channel.send
        try:
            if verb in ("stream", "prepare"):
                await (self._stream if verb == "stream" else self._load)(ticket, *values)
                send(ticket, "done", None)
            else:
                send(ticket, "done", await self._verbs[verb](*values))
        except ServingError as error:
            send(ticket, "failed", failures.from_error(error))
        except Exception as error:
            logger.error("%s failed", verb, exc_info=error)
            send(ticket, "failed", failures.from_error(_BUG))
        finally:
            self._tasks.pop(ticket, None)

    async def _infer(self, request: Message) -> Message:
        response = await self._run(inference.to_request(request))
        return inference.from_response(response, self.channel.content)

    async def _stream(self, ticket: int, request: Message) -> None:
        async with aclosing(self._runs(inference.to_request(request))) as responses:
            async for response in responses:
                values = inference.from_response(response, self.channel.content)
                if response.is_last:
                    self.channel.send(ticket, "last", values)
                else:
                    await self._part(ticket, values)

    async def _load(self, ticket: int, model: str, override: Any) -> None:
        # Asked of engines that load together with others only, which can.
        async with aclosing(self._engine.prepare(model, records.from_plain(override))) as steps:
            async for step in steps:
                await self._part(ticket, step)

    async def _part(self, ticket: int, values: Message | None) -> None:
        """Send a part of an answer; returns when the next one is wanted."""
        wanted = self._wanted[ticket] = asyncio.Event()
        try:
            self.channel.send(ticket, "part", values)
            await wanted.wait()
        finally:
            del self._wanted[ticket]

    async def _model_config(self, model: str, version: str) -> bytes:
        config = await self._configuration(model, version)
        content: bytes = config.SerializeToString()
        return content

    async def _plain(self, verb: Callable[..., Awaitable[Any]], *values: Any) -> Any:
        answer = await verb(*map(records.from_plain, values))
        if isinstance(answer, list | tuple):
            return await records.in_turns(records.to_plain, answer)
        return records.to_plain(answer)
