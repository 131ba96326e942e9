"""The server: the handlers it was given, the port, and a stop that loses nothing."""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from serving.acceptor import Acceptor
from serving.grpc_server.heads import Head, Metadata, understand
from serving.grpc_server.policy import Policy
from serving.grpc_server.protocol import GrpcProtocol
from serving.http2.tables import Tables

logger: Final = logging.getLogger("penstock.grpc")


class _Details(NamedTuple):
    """What interceptors and generic handlers are told of a call."""

    method: str
    invocation_metadata: Metadata = ()


class Server:
    """Answers by the handlers of the `grpc` package, added as to a `grpc.aio.Server`.

    `interceptors` are `grpc.aio.ServerInterceptor`s. To be used on one event loop.
    """

    def __init__(self, policy: Policy, interceptors: Sequence[Any] = ()) -> None:
        self.policy = policy
        self.tables: Tables[Head] = Tables(partial(understand, self._find, policy.encodings))
        self.intercept: Callable[[Head], Coroutine[Any, Any, Any]] | None = (
            self._intercept if interceptors else None
        )
        self._interceptors = tuple(interceptors)
        self._generic: list[Any] = []
        self._handlers: dict[str, Any] = {}
        # The one that has been silent for longest comes first.
        self._connections: OrderedDict[GrpcProtocol, None] = OrderedDict()
        self.heard: Callable[[GrpcProtocol], None] = self._connections.move_to_end
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._acceptor: Acceptor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Answer the methods that these handlers know."""
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Answer the methods of a service; generated code adds its handlers both ways."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Answer the connections of `listener`, a socket that listens, and is the server's then."""
        self._loop = asyncio.get_running_loop()
        most = self.policy.max_connections or math.inf
        patience = self.policy.patience or math.inf
        self._acceptor = Acceptor(listener, partial(GrpcProtocol, self), tls, most, patience)

    async def stop(self, grace: float) -> None:
        """Take no new calls; those under way have `grace` seconds to be answered."""
        if self._acceptor:
            self._acceptor.close()
        for connection in list(self._connections):
            connection.lifetime.leave()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet(), grace)
        for connection in list(self._connections):
            connection.abort()
        await self._quiet()

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that `stop` waits for."""
        # The one kept: asking for it would ask the system for the process each time.
        assert self._loop is not None, "nothing runs before the start"
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def admit(self, connection: GrpcProtocol) -> bool:
        """Whether there is a place for `connection`, which it takes then."""
        limit = self.policy.max_connections
        if limit is not None and len(self._connections) >= limit and not self._make_room():
            return False
        self._connections[connection] = None
        return True

    def left(self, connection: GrpcProtocol) -> None:
        """The connection is closed."""
        self._connections.pop(connection, None)
        self._changed.set()

    def _make_room(self) -> bool:
        longest = next((one for one in self._connections if one.is_idle), None)
        if longest is None:
            return False
        del self._connections[longest]
        longest.abort()
        return True

    async def _quiet(self) -> None:
        """Once no connection is open and no handler runs."""
        while self._connections or self._tasks:
            if self._tasks:
                await asyncio.wait(self._tasks.copy())
            else:
                self._changed.clear()
                await self._changed.wait()

    def _find(self, path: str) -> Any:
        handler = self._handlers.get(path)
        if handler is not None:
            return handler
        found = (generic.service(_Details(path)) for generic in self._generic)
        return next((handler for handler in found if handler is not None), None)

    async def _intercept(self, head: Head) -> Any:
        """What answers a call in its handler's stead, if an interceptor says so."""

        async def ask(interceptors: Sequence[Any], details: _Details) -> Any:
            if not interceptors:
                return head.handler
            first, *others = interceptors
            return await first.intercept_service(partial(ask, others), details)

        return await ask(self._interceptors, _Details(head.path, head.metadata))
