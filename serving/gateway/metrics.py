"""The application that Prometheus scrapes, on a port of its own as Triton has it."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.engine.base import Engine
from serving.metrics import CONTENT_TYPE, Exposition
from serving.metrics_settings import MetricsSettings


def metrics_app(engine: Engine, settings: MetricsSettings) -> Starlette:
    """An ASGI application that answers GET /metrics."""
    exposition = Exposition(settings)

    async def metrics(_: Request) -> Response:
        content = exposition.render(await engine.statistics(), await engine.cache_statistics())
        return Response(content, media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])
