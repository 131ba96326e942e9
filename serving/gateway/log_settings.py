"""The logging extension over REST and gRPC: what is logged, and how, while the server runs."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from google.protobuf.message import Message

from serving.gateway import body, examples
from serving.gateway.calls import Context, Method
from serving.gateway.extensions import Extensions
from serving.gateway.routing import json
from serving.wire import log_settings as wire


def add_routes(router: APIRouter, extensions: Extensions, limit: int) -> None:
    """Add the extension's routes to those under `/v2`; `limit` is the largest body in bytes."""
    logs = extensions.logs
    options: dict[str, Any] = {"tags": ["logging"], "responses": examples.LOG_SETTINGS}

    @router.get("/logging", **options)
    async def log_settings() -> Response:
        """What is logged, and how."""
        return json(wire.to_json(logs.settings))

    @router.post("/logging", openapi_extra=examples.LOG_SETTINGS_REQUEST, **options)
    async def update_log_settings(request: Request) -> Response:
        """Change some of the settings; gives all that are in force then."""
        await extensions.change("logs", wire.from_json(await body.read(request, limit)))
        return json(wire.to_json(logs.settings))


def methods(extensions: Extensions) -> Mapping[str, Method]:
    """The extension's gRPC method by name."""

    async def log_settings(request: Any, _: Context) -> Message:
        await extensions.change("logs", wire.from_proto(request))
        message: Message = wire.to_proto(extensions.logs.settings)
        return message

    return {"LogSettings": log_settings}
