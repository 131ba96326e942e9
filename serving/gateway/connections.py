"""Bounds what clients can hold open: connections, the heads of requests, and the server's patience.

A connection on which the server waits for its client costs nothing but its place. When no place is
left, the connection that has been idle for longest is closed for a new one; where none is idle, the
new one is refused. Whoever keeps the server waiting for too long is cut off.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.responses import Response
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from serving.gateway.lingering import Lingering, Outlet
from serving.gateway.unframed import until_closed
from serving.settings import Settings
from serving.wire import rest_documents as documents

logger = logging.getLogger("penstock.server")

# What the head of a request, what follows its body, or gRPC's metadata may have in bytes.
MAX_HEAD: Final = 64 * 1024
_INVALID: Final = "Invalid HTTP request received."
# What an answer of HTTP/1.0 says, unless its connection ends with it.
_STAYS: Final = (b"connection", b"keep-alive")


class _Trailers(list[tuple[bytes, bytes]]):
    """Takes what follows a chunked body, and forgets it: proxies look for headers before it."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """As a list does, but for keeping it."""


_TRAILERS: Final = _Trailers()


class Connections:
    """The connections of one port: at most `limit`, each silent for at most `patience` seconds.

    Once the server is `leaving`, each ends with its next answer: a client that kept it might send a
    request into its end, and would never know whether that was executed.
    """

    def __init__(self, settings: Settings, leaving: Callable[[], bool] = lambda: False) -> None:
        self.leaving = leaving
        self._limit = settings.max_connections
        self._patience = settings.connection_idle_secs
        self._open: set[Guarded] = set()
        # Since when the server waits for a client; the longest wait comes first.
        self._waiting: dict[Guarded, float] = {}
        self._is_full = False

    def admit(self, connection: "Guarded") -> bool:
        """Whether there is a place for `connection`, which it takes then."""
        if len(self._open) >= self._limit and not self._make_room():
            return False
        self._open.add(connection)
        self.wait_for(connection)
        return True

    def _make_room(self) -> bool:
        if not self._is_full:
            self._is_full = True
            logger.warning("%d connections are open, which is all there may be", self._limit)
        longest = next((one for one in self._waiting if one.is_idle), None)
        if longest is None:
            return False
        self._cut_off(longest)
        return True

    def leave(self, connection: "Guarded") -> None:
        """Free the place of `connection`, if it has one."""
        self.go_on(connection)
        self._open.discard(connection)
        if len(self._open) <= self._limit // 2:
            self._is_full = False

    def wait_for(self, connection: "Guarded") -> None:
        """From now on, the server waits for this client."""
        self._waiting.pop(connection, None)
        if connection in self._open:
            self._waiting[connection] = connection.loop.time()

    def go_on(self, connection: "Guarded") -> None:
        """From now on, the client waits for the server."""
        self._waiting.pop(connection, None)

    async def watch(self) -> None:
        """Cut off who keeps the server waiting for too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._patience / 4)
            latest = loop.time() - self._patience
            for connection in [one for one, since in self._waiting.items() if since <= latest]:
                if connection.has_read_on():
                    self.wait_for(connection)
                else:
                    self._cut_off(connection)

    def _cut_off(self, connection: "Guarded") -> None:
        connection.transport.abort()
        self.leave(connection)


class _Flow(FlowControl):
    """Tells by `waits` when an answer waits for a client that does not read the one before it."""

    def __init__(self, transport: asyncio.Transport, waits: Callable[[], None]) -> None:
        super().__init__(transport)
        self._waits = waits

    async def drain(self) -> None:
        """Until there is room for the answer; the client may have asked for it in the meantime."""
        self._waits()
        await super().drain()


class Guarded(HttpToolsProtocol):
    """A connection that has a place among others; to be mixed in before other protocols."""

    def __init__(self, others: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._others = others
        self._is_in_head = True
        # What has come of a head, or since the last byte of a body.
        self._head_bytes = 0
        self._is_over = False
        self._unread = 0
        # uvicorn knows the request that came last; before it, others may be waiting to be answered.
        self._running: RequestResponseCycle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request has come that is not answered, to the last byte."""
        return self._is_answered() and not self.transport.get_write_buffer_size()

    def has_read_on(self) -> bool:
        """Whether the client has read of its answer since this was asked, and has more to read."""
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        return self._unread not in (0, before)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or say that there is none."""
        super().connection_made(transport)
        self.flow = _Flow(transport, partial(self._others.wait_for, self))
        if not self._others.admit(self):
            self._write_that_it_is_full()
            # At once: it has no place in which it could linger.
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self._others.leave(self)
        super().connection_lost(exc)
        self.give_up()

    def give_up(self) -> None:
        """Have no work done for answers that nobody will get."""
        for cycle in (self._running, self.cycle):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()

    def linger(self) -> None:
        """End the connection, whose client may still be sending, after what has been written."""
        self._is_over = True
        self.give_up()
        self.flow.resume_reading()
        Lingering(self, self.transport)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = Outlet(self.transport, cycle, self.linger)  # type: ignore[assignment]
        if cycle.scope["http_version"] == "1.0":
            app = until_closed(app, cycle)
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is a head that does not end, or trailers that do not."""
        if self._is_over or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        self._parse(data)
        if self._head_bytes > MAX_HEAD:
            self._refuse_head()
        elif not self._is_in_head and not self._is_answered():
            self._others.wait_for(self)

    def _parse(self, data: bytes) -> None:
        """As uvicorn does, but for requests that would rather speak another protocol.

        Which is for the server to choose (RFC 9110, 7.8): they are answered as if they had not
        said so. The parser takes what follows such a head for the other protocol's.
        """
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserError:
                self.logger.warning(_INVALID)
                self.send_400_response(_INVALID)
            except HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
                continue
            return

    def _head_without_upgrade(self) -> bytes:
        """The head that has just been parsed, for another parser."""
        parser = self.parser
        fields = [field for field in self.headers if field[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (
            parser.get_method(),
            self.url,
            parser.get_http_version().encode(),
            b"".join(b"%b: %b\r\n" % field for field in fields),
        )

    def _wants_upgrade(self) -> bool:
        """Whether what is parsed comes again; a tunnel (CONNECT) is no other protocol."""
        return bool(self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT")

    def on_headers_complete(self) -> None:
        """Begin with a request whose head is not too large."""
        if self._wants_upgrade():
            return
        # Few heads come together with so much else that they must be measured.
        if self._head_bytes > MAX_HEAD and self._head_size() > MAX_HEAD:
            raise ValueError("too large a head ends the parsing")
        self._body_follows()
        self.begin_request()
        self.headers = _TRAILERS

    def begin_request(self) -> None:
        """The head of a request has been parsed, and is not too large."""
        super().on_headers_complete()
        is_old = self.parser.get_http_version() == "1.0"
        if is_old and self.parser.should_keep_alive() and not self._others.leaving():
            # uvicorn ends each connection of HTTP/1.0, whatever was asked for.
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, _STAYS]

    def on_body(self, body: bytes) -> None:
        """More of the body has come."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._wants_upgrade():
            return
        self._head_follows()
        super().on_message_complete()

    def _body_follows(self) -> None:
        """A head is complete."""
        self._is_in_head = False
        self._head_bytes = 0
        self._others.go_on(self)

    def _head_follows(self) -> None:
        """A request is complete."""
        self._is_in_head = True
        self._head_bytes = 0
        if not self._is_answered():
            self._others.go_on(self)
            if self._others.leaving():
                self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Wait for the next request, if it is not there already."""
        super().on_response_complete()
        if self._is_answered():
            self._others.wait_for(self)

    def pause_writing(self) -> None:
        """Wait for a client that does not read its answer."""
        super().pause_writing()
        self._others.wait_for(self)

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        if not self._is_answered():
            self._others.go_on(self)

    def send_400_response(self, msg: str) -> None:
        """What becomes of a request that cannot be parsed."""
        if self._is_in_head and self._head_bytes > MAX_HEAD:
            self._refuse_head()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _refuse_head(self) -> None:
        part = "head" if self._is_in_head else "chunk extension or trailer section"
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the {part} of the request has more than {MAX_HEAD} bytes",
        )

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Have what cannot be parsed answered like a request, in its turn, and parse no more."""
        if self._is_over or self.transport.is_closing():
            return
        self._is_over = True
        if not self._is_answered() and self.cycle.more_body:
            self._drop_malformed()
        # Whatever state the other is in; a new one says that no request follows this one.
        self.parser = HttpRequestParser(self)
        super().on_message_begin()
        self.url = b"/"
        self.app = Response(documents.error(message), status, media_type="application/json")
        super().on_headers_complete()
        self._head_follows()
        if self.flow.write_paused:
            self._others.wait_for(self)
        # What comes is thrown away; a client that goes is noticed.
        self.flow.resume_reading()

    def _drop_malformed(self) -> None:
        """Have no work done for the request whose body could not be parsed."""
        if self.pipeline:
            self.pipeline.popleft()
        else:
            self.give_up()
            self.cycle = None  # type: ignore[assignment]

    def _write_that_it_is_full(self) -> None:
        content = documents.error(
            "the server has as many connections as it takes (--max-connections)"
        )
        self.transport.write(
            STATUS_LINE[HTTPStatus.SERVICE_UNAVAILABLE]
            + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(content)
            + b"retry-after: 1\r\nconnection: close\r\n\r\n"
            + content
        )
