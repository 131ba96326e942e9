"""Listens, answers, and stops without losing anything: the servers of all protocols together."""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from serving import breakdown, busy_poll
from serving.acceptor import Acceptor
from serving.engine.base import Engine
from serving.errors import Internal
from serving.gateway import access, guard, inflight_bodies, sockets, tls, traced
from serving.gateway.app import create_app
from serving.gateway.connections import Connections, Guarded
from serving.gateway.errors import statuses
from serving.gateway.extensions import Extensions
from serving.gateway.hot_lane import HotLane, Lane
from serving.gateway.inference import Inference
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.metrics import metrics_app
from serving.gateway.rpc import RpcServer
from serving.gateway.security import Security
from serving.gateway.tls import Identities
from serving.inflight import Inflight
from serving.open_files import allowed_files
from serving.settings import Settings

logger = logging.getLogger("penstock.server")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each protocol listens, as `host:port`; None where it was not allowed."""

    http: str | None
    grpc: str | None
    metrics: str | None

    def __str__(self) -> str:
        named = (("REST", self.http), ("gRPC", self.grpc), ("metrics", self.metrics))
        return ", ".join(f"{name} on {address}" for name, address in named if address)


class _HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to us, since several stop together and in order, and
    the connections of `listener` too."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, settings: Settings) -> None:
        super().__init__(config)
        self._listener = listener
        self._settings = settings
        self._acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        protocol: Any = self.config.http_protocol_class
        make = partial(
            protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self._acceptor = Acceptor(
            self._listener,
            make,
            self.config.ssl,
            self._settings.max_connections,
            self._settings.connection_idle_secs,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor:
            self._acceptor.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _http(
    app: ASGIApp,
    listener: socket.socket,
    settings: Settings,
    lifecycle: Lifecycle,
    lane: Lane | None = None,
    identities: Identities | None = None,
) -> AsyncIterator[str]:
    """Serve `app` on `listener` while the block runs; requests in flight finish at its end.

    What `lane` takes does not come to `app`. Without `identities` the port is plain.
    """
    others = Connections(settings, lambda: lifecycle.draining)
    server = _HttpServer(
        uvicorn.Config(
            access.logged(app),
            http=_protocol(others, lane),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.exit_timeout_secs,
            # Never first: `others` says who is closed.
            timeout_keep_alive=math.ceil(settings.connection_idle_secs * 2),
            ssl_context_factory=(lambda *_: tls.context(identities)) if identities else None,
        ),
        listener,
        settings,
    )
    host, port = listener.getsockname()[:2]
    running = asyncio.create_task(server.serve())
    watching = asyncio.create_task(others.watch())
    try:
        yield sockets.joined(host, port)
    finally:
        server.should_exit = True
        await running
        watching.cancel()


def _protocol(others: Connections, lane: Lane | None) -> Any:
    """What uvicorn makes a protocol for each connection with."""
    return partial(Guarded, others) if lane is None else partial(HotLane, lane, others)


async def serve(
    engine: Engine,
    settings: Settings,
    extensions: Extensions,
    load: Callable[[], Awaitable[None]],
    announce: Callable[[Addresses], None],
) -> None:
    """Answer requests until a signal or a failed start; returns when all that was accepted is done.

    The ports open first, live but not ready; then `load` makes the models ready and `announce` is
    told where to call. Raises ServingError where a port or a model cannot be had, and where
    something breaks down that a new process alone can mend.
    """
    engine = busy_poll.engine(traced.engine(engine, extensions.tracer), settings.busy_poll_micros)
    lifecycle = Lifecycle(engine)
    stopping = asyncio.Event()
    with _stop_on_signals(stopping), _stop_on_breakdown(stopping) as breakdowns:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_close, engine, settings.exit_timeout_secs)
            stack.callback(extensions.close)
            addresses = await _listen(stack, engine, lifecycle, settings, extensions)
            # However this ends, those who watch must not hold it up.
            stack.callback(lifecycle.drain)
            logger.info("live: %s; loading the models", addresses)
            if await _unless(stopping, load()):
                lifecycle.started()
                announce(addresses)
                await stopping.wait()
            lifecycle.drain()
            if breakdowns:
                raise Internal(breakdowns[0])
            logger.info("stopping: no longer ready, finishing what was accepted")
            await asyncio.sleep(settings.exit_grace_secs)
            with contextlib.suppress(TimeoutError):
                # As long as the ports are open: their next requests are still to come.
                await asyncio.wait_for(engine.finish_sequences(), settings.exit_timeout_secs)
    logger.info("stopped")


async def _close(engine: Engine, patience: int) -> None:
    """Close the engine, unless a model runs on for more than so many seconds, after all others."""
    try:
        # Whoever grants no time at all means the requests, which are over by now.
        await asyncio.wait_for(engine.close(), max(1, patience))
    except TimeoutError:
        logger.error(
            "models still run after --exit-timeout-secs=%d; stopping all the same", patience
        )


async def _listen(
    stack: contextlib.AsyncExitStack,
    engine: Engine,
    lifecycle: Lifecycle,
    settings: Settings,
    extensions: Extensions,
) -> Addresses:
    """Open every allowed port; the stack closes them before it closes the engine."""
    http = grpc = metrics = None
    settings = allowed_files(settings)
    security = Security.of(settings)
    inflight = Inflight(-(-settings.max_inflight_bytes // max(1, settings.workers)))
    stack.callback(asyncio.create_task(security.follow()).cancel)
    if settings.allow_metrics:
        address = settings.metrics_address or settings.http_address
        listener = sockets.listen(address, settings.metrics_port, "--metrics-port")
        metrics = await stack.enter_async_context(
            _http(metrics_app(engine, lifecycle, settings), listener, settings, lifecycle)
        )
    if settings.allow_http:
        app = create_app(engine, lifecycle, settings, extensions)
        reuse = settings.reuse_http_port
        listener = sockets.listen(settings.http_address, settings.http_port, "--http-port", reuse)
        tracing = traced.http(app, extensions.tracer)
        codes = statuses(settings.triton_status_codes).http
        bounded = inflight_bodies.http(tracing, inflight, settings.http_max_input_size, codes)
        guarded = guard.http(bounded, security.http, codes)
        lane = _lane(engine, settings, extensions, security, inflight)
        identities = security.http_identities
        serving = _http(guarded, listener, settings, lifecycle, lane, identities)
        http = await stack.enter_async_context(serving)
    if settings.allow_grpc:
        server = RpcServer(engine, lifecycle, settings, extensions, security, inflight)
        grpc = await stack.enter_async_context(server.listen())
    return Addresses(http, grpc, metrics)


def _lane(
    engine: Engine,
    settings: Settings,
    extensions: Extensions,
    security: Security,
    inflight: Inflight,
) -> Lane:
    return Lane(
        Inference(engine, extensions.regions),
        statuses(settings.triton_status_codes).http,
        settings.http_max_input_size,
        security.http,
        is_open=lambda: extensions.tracer.is_idle and not access.is_logged(),
        inflight=inflight,
    )


async def _unless(stopping: asyncio.Event, work: Awaitable[None]) -> bool:
    """True once `work` is done; False, with `work` cancelled, if `stopping` came first."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        await task
        return True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return False


@contextlib.contextmanager
def _stop_on_breakdown(stopping: asyncio.Event) -> Iterator[list[str]]:
    """Set `stopping` where something breaks down; gives the reasons."""
    loop = asyncio.get_running_loop()
    reasons: list[str] = []

    def stop(reason: str) -> None:
        reasons.append(reason)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(stopping.set)

    with breakdown.watched(stop):
        yield reasons


@contextlib.contextmanager
def _stop_on_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Set `stopping` at the first signal; the second finds the default action and ends at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            # Python's own answer to SIGINT is an exception, which would wait for what runs.
            signal.signal(number, signal.SIG_DFL)
        stopping.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
