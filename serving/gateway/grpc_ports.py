"""The gRPC port by either implementation: our own server, or the one of the `grpc` package.

Both take the same handlers, the same interceptors and the same settings.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import grpc

from serving.gateway import connections, guard, sockets, tls
from serving.gateway.errors import Statuses
from serving.gateway.security import Security
from serving.grpc_server.policy import Policy
from serving.grpc_server.server import Server
from serving.http2.connection import Terms
from serving.http2.patience import PingPolicy
from serving.inflight import Inflight
from serving.network_settings import CompressionLevel, GrpcImplementation
from serving.settings import Settings

# gRPC's own numbers; it picks the algorithm among those that the client can unpack.
_LEVELS: Final = {
    CompressionLevel.NONE: 0,
    CompressionLevel.LOW: 1,
    CompressionLevel.MEDIUM: 2,
    CompressionLevel.HIGH: 3,
}
# What it picks, by these levels.
_ENCODINGS: Final = {
    CompressionLevel.NONE: (),
    CompressionLevel.LOW: ("gzip", "deflate"),
    CompressionLevel.MEDIUM: ("deflate", "gzip"),
    CompressionLevel.HIGH: ("deflate", "gzip"),
}


class Port(Protocol):
    """What the handlers are added to, and the port that they then answer on."""

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """As `grpc.aio.Server` has it."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """As `grpc.aio.Server` has it."""

    async def open(self) -> int:
        """Listen; gives the number of the port. ServingError, OSError or
        RuntimeError where it cannot be had."""

    async def close(self, grace: float) -> None:
        """Take no new calls; those under way have `grace` seconds to be answered."""


def port(settings: Settings, security: Security, statuses: Statuses, inflight: Inflight) -> Port:
    """The port that the settings ask for; the library's own knows nothing of `inflight`."""
    if settings.grpc_implementation is GrpcImplementation.GRPCIO:
        return _LibraryPort(settings, security, statuses)
    return _OwnPort(settings, security, statuses, inflight)


class _OwnPort(Server):
    def __init__(
        self,
        settings: Settings,
        security: Security,
        statuses: Statuses,
        inflight: Inflight,
    ) -> None:
        limit = settings.http_max_input_size
        super().__init__(
            Policy(
                limit=limit,
                encodings=_ENCODINGS[settings.grpc_infer_response_compression_level],
                max_connections=settings.max_connections,
                patience=settings.connection_idle_secs,
                keepalive=_seconds(settings.grpc_keepalive_time),
                keepalive_timeout=settings.grpc_keepalive_timeout / 1000,
                max_age=_seconds(settings.grpc_max_connection_age),
                max_age_grace=_seconds(settings.grpc_max_connection_age_grace),
                terms=Terms(advance=limit, pings=_pings(settings)),
                inflight=inflight,
            ),
            guard.interceptors(security.grpc, statuses),
        )
        self._settings = settings
        self._identities = security.grpc_identities

    async def open(self) -> int:
        context = tls.context(self._identities) if self._identities else None
        address, port = self._settings.grpc_address, self._settings.grpc_port
        reuse = self._settings.reuse_grpc_port
        listener = sockets.listen(address, port, "--grpc-port", reuse)
        self.start(listener, context)
        number: int = listener.getsockname()[1]
        return number

    async def close(self, grace: float) -> None:
        await self.stop(grace)


class _LibraryPort:
    def __init__(self, settings: Settings, security: Security, statuses: Statuses) -> None:
        self._address = sockets.joined(settings.grpc_address, settings.grpc_port)
        self._identities = security.grpc_identities
        self._server = grpc.aio.server(
            options=_options(settings), interceptors=guard.interceptors(security.grpc, statuses)
        )
        self.add_generic_rpc_handlers = self._server.add_generic_rpc_handlers
        self.add_registered_method_handlers = self._server.add_registered_method_handlers

    async def open(self) -> int:
        if self._identities is None:
            number: int = self._server.add_insecure_port(self._address)
        else:
            credentials = tls.grpc_credentials(self._identities)
            number = self._server.add_secure_port(self._address, credentials)
        await self._server.start()
        return number

    async def close(self, grace: float) -> None:
        await self._server.stop(grace)


def _pings(settings: Settings) -> PingPolicy:
    return PingPolicy(
        interval=settings.grpc_http2_min_recv_ping_interval_without_data / 1000,
        strikes=settings.grpc_http2_max_ping_strikes,
        without_calls=settings.grpc_keepalive_permit_without_calls,
    )


def _seconds(milliseconds: int) -> float | None:
    """A time as tritonserver's flags say it; 0 sets none."""
    return milliseconds / 1000 or None


def _options(settings: Settings) -> list[tuple[str, int]]:
    """gRPC's channel arguments that the settings come to."""
    level = settings.grpc_infer_response_compression_level
    patience = math.ceil(settings.connection_idle_secs * 1000)
    return [
        ("grpc.max_receive_message_length", settings.http_max_input_size),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", connections.MAX_HEAD),
        ("grpc.absolute_max_metadata_size", connections.MAX_HEAD),
        ("grpc.default_compression_level", _LEVELS[level]),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_connection_idle_ms", patience),
        ("grpc.server_handshake_timeout_ms", patience),
        *settings.grpc_channel_arguments,
    ]
