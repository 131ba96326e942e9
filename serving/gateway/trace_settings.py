"""The trace extension over REST and gRPC: which requests are traced, of the server or a model."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from google.protobuf.message import Message

from serving.engine.base import Engine
from serving.errors import InvalidArgument, NotFound
from serving.gateway import body, examples
from serving.gateway.calls import Context, Method
from serving.gateway.extensions import Extensions
from serving.gateway.routing import Model, json
from serving.tracing.settings import Changes, Document
from serving.wire import trace_settings as wire


def add_routes(router: APIRouter, engine: Engine, extensions: Extensions, limit: int) -> None:
    """Add the extension's routes to those under `/v2`; `limit` is the largest body in bytes."""
    reading: dict[str, Any] = {"tags": ["trace"], "responses": examples.TRACE_SETTINGS}
    changing = reading | {"openapi_extra": examples.TRACE_SETTINGS_REQUEST}

    @router.get("/trace/setting", **reading)
    async def trace_settings() -> Response:
        """Which requests are traced."""
        return json(wire.to_json(extensions.tracer.settings()))

    @router.post("/trace/setting", **changing)
    async def update_trace_settings(request: Request) -> Response:
        """Change some of the settings, null takes one back; gives all that are in force then."""
        changes = wire.from_json(await body.read(request, limit))
        return json(wire.to_json(await _update(engine, extensions, changes)))

    @router.get("/models/{model}/trace/setting", **reading)
    async def model_trace_settings(model: Model) -> Response:
        """Which of the model's requests are traced."""
        return json(wire.to_json(await _update(engine, extensions, {}, model)))

    @router.post("/models/{model}/trace/setting", **changing)
    async def update_model_trace_settings(request: Request, model: Model) -> Response:
        """Change some of the model's settings, null lets one follow the server's again."""
        changes = wire.from_json(await body.read(request, limit))
        return json(wire.to_json(await _update(engine, extensions, changes, model)))


def methods(engine: Engine, extensions: Extensions) -> Mapping[str, Method]:
    """The extension's gRPC method by name."""

    async def trace_setting(request: Any, _: Context) -> Message:
        changes = wire.from_proto(request)
        message: Message = wire.to_proto(
            await _update(engine, extensions, changes, request.model_name)
        )
        return message

    return {"TraceSetting": trace_setting}


async def _update(
    engine: Engine, extensions: Extensions, changes: Changes, model: str = ""
) -> Document:
    """The settings in force after the changes, if there are any."""
    if model:
        try:
            await engine.model_config(model)
        except NotFound:
            raise InvalidArgument(f"Request for unknown model : {model}") from None
    if changes:
        await extensions.change("traces", model, changes)
    return extensions.tracer.settings(model)
