"""REST routes of the Open Inference Protocol; each asks the engine one thing."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from serving.engine.base import Engine
from serving.errors import NotFound
from serving.gateway import (
    body,
    cuda_shared_memory,
    examples,
    log_settings,
    repository,
    shared_memory,
    trace_settings,
)
from serving.gateway.disconnect import unless_gone
from serving.gateway.extensions import Extensions
from serving.gateway.inference import Inference
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.routing import for_model, json, response
from serving.wire import json_text
from serving.wire import rest_documents as documents
from serving.wire.rest import HEADER_LENGTH


def create_router(
    engine: Engine,
    lifecycle: Lifecycle,
    extensions: Extensions,
    inference: Inference,
    limit: int,
) -> APIRouter:
    """The routes under `/v2`; `limit` is the largest body in bytes."""
    router = APIRouter(prefix="/v2")
    _health(router, lifecycle)
    # Before the metadata, whose route would take `/models/stats` for a model of that name.
    _statistics(router, engine)
    _metadata(router, engine, extensions)
    repository.add_routes(router, engine, limit)
    shared_memory.add_routes(router, extensions, limit)
    cuda_shared_memory.add_routes(router)
    log_settings.add_routes(router, extensions, limit)
    trace_settings.add_routes(router, engine, extensions, limit)
    _inference(router, inference, limit)
    return router


def _health(router: APIRouter, lifecycle: Lifecycle) -> None:
    """The status says it to Triton's clients, the body to KServe's, which read nothing else.

    A server that is not ready says so without a body, as Triton does.
    """
    health: dict[str, Any] = {"tags": ["health"], "response_class": Response}

    @router.get("/health/live", responses=examples.LIVE, **health)
    async def live() -> Response:
        """200 while the process answers."""
        return json(documents.LIVE)

    @router.get("/health/ready", responses=examples.READY, **health)
    async def ready() -> Response:
        """200 while every model answers and the server is not stopping."""
        if await lifecycle.ready():
            return json(documents.READY)
        return Response(status_code=HTTPStatus.BAD_REQUEST)

    @for_model(router, "GET", "/ready", responses=examples.MODEL_READY, **health)
    async def model_ready(_: Request, model: str, version: str) -> Response:
        """200 while the model answers."""
        if await lifecycle.model_ready(model, version):
            return json(documents.model_ready(model))
        reason = documents.error("Model version not ready")
        return Response(reason, HTTPStatus.BAD_REQUEST, media_type="application/json")


def _metadata(router: APIRouter, engine: Engine, extensions: Extensions) -> None:
    @router.get("", tags=["metadata"], responses=examples.SERVER_METADATA)
    async def server_metadata() -> Response:
        """The server's name, version and implemented extensions of the protocol."""
        return json(documents.server_metadata(extensions.added_to(await engine.metadata())))

    @for_model(router, "GET", "", tags=["metadata"], responses=examples.MODEL_METADATA)
    async def model_metadata(_: Request, model: str, version: str) -> Response:
        """The model's inputs and outputs; -1 is a variable dimension."""
        return json(documents.model_metadata(await engine.model_metadata(model, version)))

    @for_model(router, "GET", "/config", tags=["metadata"], responses=examples.CONFIG)
    async def model_config(_: Request, model: str, version: str) -> Response:
        """The complete model configuration, as config.pbtxt and the graph together make it."""
        return json(documents.model_config(await engine.model_config(model, version)))

    @for_model(router, "GET", "/passport", tags=["metadata"], responses=examples.PASSPORT)
    async def passport(_: Request, model: str, version: str) -> Response:
        """The version's passport: hashes, accuracy and parity, as export proved them."""
        metadata = await engine.model_metadata(model, version)
        if metadata.passport is None:
            raise NotFound(f"model '{model}' version {metadata.version} has no passport")
        return json(json_text.dumps(metadata.passport))


def _statistics(router: APIRouter, engine: Engine) -> None:
    options: dict[str, Any] = {"tags": ["statistics"], "responses": examples.STATISTICS}

    @router.get("/models/stats", **options)
    async def all_statistics() -> Response:
        """Counters of every model version."""
        return json(documents.statistics(await engine.statistics()))

    @for_model(router, "GET", "/stats", **options)
    async def statistics(_: Request, model: str, version: str) -> Response:
        """Counters of the model's versions."""
        return json(documents.statistics(await engine.statistics(model, version)))


def _inference(router: APIRouter, inference: Inference, limit: int) -> None:
    @for_model(
        router,
        "POST",
        "/infer",
        tags=["inference"],
        responses=examples.INFERRED,
        openapi_extra=examples.INFER_REQUEST,
    )
    async def infer(request: Request, model: str, version: str) -> Response:
        """Run the model on JSON tensors, or on binary ones that follow the JSON."""
        content = await body.read(request, limit)
        header_length = request.headers.get(HEADER_LENGTH)
        accepted = request.headers.get("accept-encoding", "")
        work = inference(model, version, content, header_length, accepted)
        return response(await unless_gone(request, work))
