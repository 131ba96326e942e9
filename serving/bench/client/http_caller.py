"""Calls over HTTP/1.1: connections that stay open, one request at a time on each."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, cast

import httptools
import orjson

from serving.bench.client.caller import Call, Check, Ended, Ending
from serving.bench.client.tally import Failure
from serving.bench.client.timeouts import Timeouts
from serving.bench.plan import Target

TIMED_OUT: Final = Failure("timeout", "no answer within the timeout")

_OK: Final = 200
_MESSAGE: Final = 300  # characters of a failure's text that are kept
_OPENING: Final = 64  # connections opened at the same time


class HttpCaller:
    """Sends requests, each the bytes of a head and a body; opens connections as needed.

    `check` sees every answer of status 200.
    """

    def __init__(self, target: Target, check: Check) -> None:
        self.ended: Ended = lambda *_: None
        self._target = target
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._carriers: dict[Call, _Connection | None] = {}
        self._timeouts = Timeouts(self._loop, self._expire)
        self._tls = ssl.create_default_context() if target.tls else None

    async def open(self, connections: int) -> None:
        """Connect as often as that; a failure is left to the first call to meet."""
        limit = asyncio.Semaphore(_OPENING)

        async def one() -> None:
            async with limit:
                self._idle.append(await self._connect())

        missing = connections - len(self._idle)
        await asyncio.gather(*(one() for _ in range(missing)), return_exceptions=True)

    def call(self, call: Call) -> None:
        """Send it on the connection that was used last, or on a new one."""
        self._timeouts.add(call, call.deadline)
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                self._carriers[call] = connection
                connection.send(call, call.content)
                return
        self._carriers[call] = None
        task = self._loop.create_task(self._send_on_new(call))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def close(self) -> None:
        """Drop all connections."""
        self._timeouts.clear()
        for task in tuple(self._opening):
            task.cancel()
        carrying = [connection for connection in self._carriers.values() if connection]
        self._carriers.clear()
        for connection in (*self._idle, *carrying):
            connection.abandon()
        self._idle.clear()

    def free(self, connection: "_Connection") -> None:
        """Let a connection carry another call."""
        self._idle.append(connection)

    def answered(self, call: Call, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        """A connection has an answer."""
        now = time.monotonic_ns()
        timing = headers.get(b"server-timing")
        if status != _OK:
            failure: Failure | None = Failure(f"HTTP {status}", _message(body))
        else:
            length = headers.get(b"inference-header-content-length")
            wrong = self._check(call.body, body, int(length) if length else None)
            failure = Failure("wrong answer", wrong) if wrong else None
        self._end(call, now, Ending(failure, timing=timing))

    def lost(self, call: Call, reason: str) -> None:
        """A connection was lost before it had an answer."""
        self._end(call, time.monotonic_ns(), Ending(Failure("connection", reason), is_lost=True))

    def _end(self, call: Call, now: int, ending: Ending) -> None:
        del self._carriers[call]
        self._timeouts.remove(call)
        self.ended(call, now, ending)

    def _expire(self, call: Call) -> None:
        connection = self._carriers.pop(call)
        if connection:
            connection.abandon()
        self.ended(call, time.monotonic_ns(), Ending(TIMED_OUT))

    async def _connect(self) -> "_Connection":
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self), self._target.host, self._target.port, ssl=self._tls
        )
        return connection

    async def _send_on_new(self, call: Call) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            if call in self._carriers:
                self.lost(call, f"cannot connect: {reason(error)}")
            return
        if call in self._carriers:
            self._carriers[call] = connection
            connection.send(call, call.content)
        else:
            self.free(connection)


class _Connection(asyncio.Protocol):
    """One connection; httptools calls its `on_` methods."""

    def __init__(self, caller: HttpCaller) -> None:
        self.is_open = False
        self._caller = caller
        self._call: Call | None = None
        self._transport: asyncio.Transport
        self._write: Callable[[bytes], None]
        self._parser: Any = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write
        self._parser = httptools.HttpResponseParser(self)
        self.is_open = True

    def send(self, call: Call, request: bytes) -> None:
        """Send a request; nothing else is under way."""
        self._call = call
        self._write(request)

    def abandon(self) -> None:
        """Close, and say nothing of what is under way."""
        self.is_open = False
        self._call = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(f"the answer is not HTTP/1.1: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(f"closed before the answer{f': {reason(error)}' if error else ''}")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        headers, call = self._headers, self._call
        self._headers, self._body, self._call = {}, [], None
        if call is None:
            self._lose("an answer to no request")
            return
        if self._parser.should_keep_alive():
            self._caller.free(self)
        else:
            self.is_open = False
            self._transport.close()
        self._caller.answered(call, self._parser.get_status_code(), headers, body)

    def _lose(self, reason: str) -> None:
        self.is_open = False
        call, self._call = self._call, None
        self._transport.abort()
        if call:
            self._caller.lost(call, reason)


def reason(error: BaseException) -> str:
    """What an operating system's error means, without the address, which is the same for all."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__


def _message(body: bytes) -> str:
    """The error of an answer as the protocol has it, or what else is there."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return str(document["error"])[:_MESSAGE]
    return body[:_MESSAGE].decode(errors="replace").strip() or "no message"
