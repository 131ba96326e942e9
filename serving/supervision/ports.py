"""The ports of a server of several processes, had for as long as it runs."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from serving.gateway import sockets
from serving.gateway.server import Addresses
from serving.settings import Settings


@contextmanager
def reserved(settings: Settings) -> Iterator[Settings]:
    """Hold the ports for the block; the settings given name them, and let all workers have them.

    Nobody listens on what is held. A process that is started again finds its port free, since
    sockets that do not listen stand in the way of none that belong to the same user and may be
    shared; another server finds it taken as soon as one listens. Raises ServingError where a port
    cannot be had.
    """
    with ExitStack() as stack:

        def port(address: str, number: int, flag: str, reuse: bool = False) -> int:
            held = stack.enter_context(sockets.bind(address, number, flag, reuse))
            # From now on: before, it would have gone by another server's port as well.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            given: int = held.getsockname()[1]
            return given

        http, grpc, metrics = settings.http_port, settings.grpc_port, settings.metrics_port
        if settings.allow_metrics:
            address = settings.metrics_address or settings.http_address
            metrics = port(address, metrics, "--metrics-port")
        if settings.allow_http:
            http = port(settings.http_address, http, "--http-port", settings.reuse_http_port)
        if settings.allow_grpc:
            grpc = port(settings.grpc_address, grpc, "--grpc-port", settings.reuse_grpc_port)
        yield replace(
            settings,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            reuse_http_port=True,
            reuse_grpc_port=True,
        )


def addresses(settings: Settings) -> Addresses:
    """Where a server with these ports is called."""
    metrics = settings.metrics_address or settings.http_address
    return Addresses(
        sockets.joined(settings.http_address, settings.http_port) if settings.allow_http else None,
        sockets.joined(settings.grpc_address, settings.grpc_port) if settings.allow_grpc else None,
        sockets.joined(metrics, settings.metrics_port) if settings.allow_metrics else None,
    )
