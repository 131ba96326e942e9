"""gRPC's own health protocol, which load balancers and Kubernetes speak."""

from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.gateway.lifecycle import Lifecycle

Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # an untyped library
    """`grpc.health.v1` for `services`, of which "" is the server itself: SERVING means ready."""

    def __init__(self, lifecycle: Lifecycle, services: Collection[str]) -> None:
        self._lifecycle = lifecycle
        self._services = services

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        """Whether requests are welcome now; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            message = f"service: expected one of {sorted(self._services)}, got {request.service!r}"
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return Response(status=await self._status(request.service))

    async def Watch(  # noqa: N802 (the protocol's name, as above)
        self, request: Any, _: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        """The state now and at each change; the last one is that the server is stopping.

        There the stream ends: open, it would hold up the stop that it tells of.
        """
        told = None
        while True:
            # Seen before the state is: a change while that is told must not be missed.
            changed, draining = self._lifecycle.changed, self._lifecycle.draining
            status = await self._status(request.service)
            if status != told:
                yield Response(status=status)
                told = status
            if draining:
                return
            await changed.wait()

    async def _status(self, service: str) -> Any:
        if service not in self._services:
            return Response.SERVICE_UNKNOWN
        return Response.SERVING if await self._lifecycle.ready() else Response.NOT_SERVING
