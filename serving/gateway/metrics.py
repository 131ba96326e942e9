"""The application that Prometheus scrapes, on a port of its own as Triton has it.

Health is told there as well: what probes a server must get through when all of REST's connections
are taken, and where REST asks for certificates.
"""

import asyncio
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import server_metrics
from serving.engine.base import Engine
from serving.gateway.lifecycle import Lifecycle
from serving.metrics import CONTENT_TYPE, Exposition
from serving.metrics_settings import MetricsSettings
from serving.wire import rest_documents as documents


def metrics_app(engine: Engine, lifecycle: Lifecycle, settings: MetricsSettings) -> Starlette:
    """An ASGI application that answers GET /metrics, /v2/health/live and /v2/health/ready."""
    exposition = Exposition(settings)

    async def metrics(_: Request) -> Response:
        page = exposition.page(await engine.cache_statistics(), await engine.unloaded())
        for version in await engine.counted():
            page.add(version)
            # Requests are answered meanwhile.
            await asyncio.sleep(0)
        servers = server_metrics.render(await engine.servers())
        return Response(page.content() + servers, media_type=CONTENT_TYPE)

    # As REST answers to the same questions.
    async def live(_: Request) -> Response:
        return Response(documents.LIVE, media_type="application/json")

    async def ready(_: Request) -> Response:
        if await lifecycle.ready():
            return Response(documents.READY, media_type="application/json")
        return Response(status_code=HTTPStatus.BAD_REQUEST)

    return Starlette(
        routes=[
            Route("/metrics", metrics, methods=["GET"]),
            Route("/v2/health/live", live, methods=["GET"]),
            Route("/v2/health/ready", ready, methods=["GET"]),
        ]
    )
