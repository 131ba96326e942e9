"""One connection on the event loop: bytes to HTTP/2, its requests to calls, and back."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from serving.errors import UNEXPECTED
from serving.grpc_server.call import Call
from serving.grpc_server.heads import Head
from serving.grpc_server.lifetime import Lifetime
from serving.grpc_server.policy import Policy
from serving.http2.connection import Connection
from serving.http2.frames import ConnectionFault, Fault
from serving.http2.stream import Stream
from serving.http2.tables import Tables

logger: Final = logging.getLogger("penstock.grpc")

# What may wait to be written for a client that goes on asking but does not read.
_MAX_UNREAD: Final = 16 * 1024 * 1024


class Host(Protocol):
    """The server that a connection came to."""

    policy: Policy
    tables: Tables[Head]
    intercept: Callable[[Head], Coroutine[Any, Any, Any]] | None
    # Told of each connection that has been admitted whenever its client sends something.
    heard: Callable[["GrpcProtocol"], None]

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that the server waits for when it stops."""

    def admit(self, connection: "GrpcProtocol") -> bool:
        """Whether there is a place for `connection`, which it takes then."""

    def left(self, connection: "GrpcProtocol") -> None:
        """The connection is closed."""


class GrpcProtocol(asyncio.Protocol):
    """What `Connection` calls, what a call asks of its link, and what ends a lifetime."""

    def __init__(self, host: Host) -> None:
        self.loop = asyncio.get_running_loop()
        self.limit = host.policy.limit
        self.inflight = host.policy.inflight
        self.run = host.run
        self.intercept = host.intercept
        self.peer = ""
        self.lifetime = Lifetime(host.policy, self.loop, self)
        self._host = host
        self._heard = host.heard
        self._is_over = False

    # asyncio's side

    def connection_made(self, transport: Any) -> None:
        """Begin, if there is a place."""
        self._transport: asyncio.Transport = transport
        self.peer = _peer(transport.get_extra_info("peername"))
        connection = self._connection = Connection(
            self,
            self._host.tables,
            transport.write,
            self.loop.time,
            self._host.policy.terms,
            self._over,
        )
        self._receive = connection.receive
        self.send = connection.sender.send
        if self._host.admit(self):
            self.lifetime.begin()
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Take what has come; no fault in it, and none of ours, goes beyond this connection."""
        if self._is_over:
            return
        self.lifetime.last_heard = self.loop.time()
        self._heard(self)
        connection = self._connection
        try:
            self._receive(data)
        except ConnectionFault as fault:
            self._end(fault.fault, fault.message)
        except Exception:
            logger.exception("a gRPC connection failed")
            self._end(Fault.INTERNAL_ERROR, UNEXPECTED)
        if connection.sender.paused and self._transport.get_write_buffer_size() > _MAX_UNREAD:
            self.abort()

    def pause_writing(self) -> None:
        """The client does not read what it gets."""
        self._connection.sender.paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._connection.sender.paused = False
        self._connection.sender.pump()

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody waits for anything any more."""
        self.lifetime.stop()
        self._cancel_calls()
        self._host.left(self)

    # The connection's side

    def opened(self, stream: Stream, request: Head) -> None:
        """A request has begun."""
        stream.expected = request.length
        if request.handler is None:
            self._turn_away(stream, request)
            return
        call = stream.call = Call(self, stream, request)
        if stream.ended:
            call.receive(b"")

    def _turn_away(self, stream: Stream, request: Head) -> None:
        if request.refusal is None:
            self._connection.reset(stream, Fault.PROTOCOL_ERROR)
        else:
            self.send(stream, b"", b"", request.refusal)

    # The rest of the calls' side

    def want(self, stream: Stream, size: int) -> None:
        """As `Credit.want`."""
        self._connection.credit.want(stream, size)

    def give_back(self, stream: Stream, size: int) -> None:
        """As `Credit.give_back`."""
        self._connection.credit.give_back(stream, size)

    # The lifetime's side

    @property
    def is_greeted(self) -> bool:
        """Whether the client has said that it speaks HTTP/2."""
        return self._connection.is_greeted

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._connection.streams

    def give_up_waiting(self) -> None:
        """End the calls that wait for nothing but the client, which has been silent for so long.

        Those that send no more of their requests though they may, and those whose responses are
        complete and not read. A stream whose client has nothing to say for now goes on.
        """
        connection = self._connection
        for stream in list(connection.streams.values()):
            if stream.pending and stream.trailers is not None and not connection.sender.paused:
                connection.reset(stream, Fault.CANCEL)
            elif isinstance(stream.call, Call) and stream.credit:
                stream.call.give_up_waiting()

    def ask_alive(self) -> None:
        """Ask for a sign of life."""
        self._connection.ask_alive()

    def announce_end(self) -> None:
        """Ask for no new calls."""
        self._connection.announce_end()

    def refuse(self) -> None:
        """Take no new calls."""
        self._connection.refuse()

    def close(self) -> None:
        """Close once everything is written."""
        self._transport.close()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._is_over = True
        self._cancel_calls()
        self._transport.abort()

    def _over(self) -> None:
        """Everything is answered, and the client closes first.

        What it sends to a closed socket, be it the word that it has read something, would reset the
        connection, and it would lose the answers that it has yet to read.
        """
        self._is_over = True
        self.lifetime.linger()
        # What came in the same piece as the last word may still be replied to.
        self.loop.call_soon(self._say_no_more)

    def _say_no_more(self) -> None:
        if not self._transport.can_write_eof():
            # TLS has a goodbye of its own, which waits for the client's.
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()

    def _end(self, fault: Fault, message: str) -> None:
        logger.debug("closing the gRPC connection of %s: %s", self.peer, message)
        self._connection.farewell(fault, message)
        self._cancel_calls()
        self._transport.close()
        self.lifetime.closing()

    def _cancel_calls(self) -> None:
        streams, self._connection.streams = self._connection.streams, {}
        for stream in streams.values():
            if stream.call is not None:
                stream.call.cancel()


def _peer(address: Any) -> str:
    """The client as gRPC names it."""
    if not isinstance(address, tuple):
        return "unix:"
    host, port = address[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
