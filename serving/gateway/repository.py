"""The protocol's model_repository extension over REST and gRPC: index, load and unload."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from serving.engine.base import Engine
from serving.gateway import body, examples
from serving.gateway.calls import Context, Method
from serving.gateway.routing import Model, json
from serving.wire import proto_documents, rest_documents
from serving.wire import repository_requests as wire


def add_routes(router: APIRouter, engine: Engine, limit: int) -> None:
    """Add the extension's routes to those under `/v2`; `limit` is the largest body in bytes."""
    control: dict[str, Any] = {
        "tags": ["repository"],
        "responses": examples.CONTROLLED,
        "response_class": Response,
    }

    @router.post(
        "/repository/index",
        tags=["repository"],
        responses=examples.INDEX,
        openapi_extra=examples.INDEX_REQUEST,
    )
    async def index(request: Request) -> Response:
        """Every model of the repositories with its versions' states."""
        ready_only = rest_documents.index_request(await body.read(request, limit))
        return json(rest_documents.repository_index(await engine.index(ready_only)))

    @router.post("/repository/models/{model}/load", openapi_extra=examples.LOAD_REQUEST, **control)
    async def load(request: Request, model: Model) -> Response:
        """Load or reload the model; in explicit mode only. What serves goes on until it is ready.

        The parameter `config` is the JSON of a ModelConfig that replaces config.pbtxt until the
        model is unloaded; with it, `file:1/model.onnx` and the like are files in base64 that
        replace the model's folder.
        """
        override = wire.load_from_json(await body.read(request, limit))
        await engine.load(model, override)
        return Response()

    @router.post(
        "/repository/models/{model}/unload", openapi_extra=examples.UNLOAD_REQUEST, **control
    )
    async def unload(request: Request, model: Model) -> Response:
        """Take the model out of service; in explicit mode only. What was accepted is answered.

        The parameter `unload_dependents` takes the models along that it is made of.
        """
        dependents = wire.unload_from_json(await body.read(request, limit))
        await engine.unload(model, dependents)
        return Response()

    @router.post("/repository/{repository}/index", include_in_schema=False)
    @router.post("/repository/{repository}/models/{model}/load", include_in_schema=False)
    @router.post("/repository/{repository}/models/{model}/unload", include_in_schema=False)
    async def one_repository(repository: str) -> Response:
        """What the protocol allows and Triton does not offer either."""
        wire.refuse_repository_name(repository)
        raise AssertionError("a path has no empty parts")


def methods(engine: Engine) -> Mapping[str, Method]:
    """The extension's gRPC methods by name."""

    async def index(request: Any, _: Context) -> Message:
        wire.refuse_repository_name(request.repository_name)
        return proto_documents.repository_index(await engine.index(request.ready))

    async def load(request: Any, _: Context) -> Message:
        override = wire.load_from_proto(request)
        await engine.load(request.model_name, override)
        return service_pb2.RepositoryModelLoadResponse()

    async def unload(request: Any, _: Context) -> Message:
        dependents = wire.unload_from_proto(request)
        await engine.unload(request.model_name, dependents)
        return service_pb2.RepositoryModelUnloadResponse()

    return {
        "RepositoryIndex": index,
        "RepositoryModelLoad": load,
        "RepositoryModelUnload": unload,
    }
