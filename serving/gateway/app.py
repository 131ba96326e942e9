"""The FastAPI application: routes, documentation, and errors in the protocol's form."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import __version__
from serving.engine.base import Engine
from serving.errors import Code, ServingError
from serving.gateway import answers, generate, predict, rest, schemas
from serving.gateway.answers import Answer
from serving.gateway.errors import statuses
from serving.gateway.extensions import Extensions
from serving.gateway.inference import Inference
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.page import add_page
from serving.gateway.routing import response
from serving.settings import Settings
from serving.wire import rest_documents as documents

logger = logging.getLogger("penstock.rest")

# Those that any route has, and as which one each is answered.
_METHODS: Final = {"GET": "GET", "HEAD": "GET", "POST": "POST"}
_DESCRIPTION: Final = """
Open Inference Protocol v2 with Triton's extensions, and `/predict` for people.
Every error is `{"error": "what was wrong, where, and what was expected"}`.
"""
# As the documentation shows them: what most people come for goes first.
_TAGS: Final = {
    "predict": "An image, a text or numbers, typed by hand.",
    "inference": "Tensors, as clients of the Open Inference Protocol and of Triton send them.",
    "generate": "Texts, at once or token by token.",
    "metadata": "What the server and its models are.",
    "health": "Who is alive, who is ready.",
    "statistics": "What each model has done, and how long it took.",
    "repository": "Models, loaded and unloaded.",
    "shared memory": "Tensors that clients on this machine pass without copying.",
    "trace": "Which requests are followed.",
    "logging": "What is logged.",
}


def create_app(
    engine: Engine, lifecycle: Lifecycle, settings: Settings, extensions: Extensions
) -> FastAPI:
    """The application that answers REST for `engine`."""
    app = FastAPIOffline(
        title="Penstock",
        version=__version__,
        description=_DESCRIPTION,
        redoc_url=None,
        # As in Triton, a path with a slash behind it is another one.
        redirect_slashes=False,
    )
    limit = settings.http_max_input_size
    inference = Inference(engine, extensions.regions)
    app.include_router(rest.create_router(engine, lifecycle, extensions, inference, limit))
    app.include_router(generate.create_router(engine, limit))
    app.include_router(predict.create_router(engine, limit))
    add_page(app)
    app.add_middleware(_heads)
    app.add_exception_handler(
        ServingError, _serving_error(statuses(settings.triton_status_codes).http)
    )
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)
    setattr(app, "openapi", partial(_described, app.openapi))  # noqa: B010  # FastAPI's own hook
    return app


def _heads(app: ASGIApp) -> ASGIApp:
    """`app`, which answers HEAD as it does GET; uvicorn knows what was asked and sends no body."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await app(scope, receive, send)

    return call


def _described(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document: schemas have names, and no route a status that it never answers."""
    document = describe()
    routes = [route for path in document["paths"].values() for route in path.values()]
    used = {tag for route in routes for tag in route["tags"]}
    document["tags"] = [{"name": tag, "description": _TAGS[tag]} for tag in _TAGS if tag in used]
    document["components"] = {"schemas": schemas.COMPONENTS}
    for path in document["paths"].values():
        for operation in path.values():
            # What FastAPI answers to a path or a query that does not fit; here that is a 400.
            operation["responses"].pop("422", None)
    return document


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return response(Answer(documents.error(message), status, headers=headers or {}))


def _serving_error(
    status: Mapping[Code, int],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The answer to an error of the core, by that table."""

    async def answer(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)
        return response(answers.of_error(error, status))

    return answer


async def _validation_error(_: Request, error: Exception) -> Response:
    """FastAPI's own finding about a path or query parameter."""
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}"
        for fault in error.errors()
    )
    return _error(HTTPStatus.BAD_REQUEST, faults)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such route, or not with that method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router names the methods of the first route for the path only.
        headers["Allow"] = ", ".join(
            method for method, route in _METHODS.items() if _answers(request, route)
        )
    return _error(error.status_code, message, headers)


def _answers(request: Request, method: str) -> bool:
    """Whether the path of `request` is one that `method` is answered on."""
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    logger.error("%s %r failed", request.method, request.scope["raw_path"], exc_info=error)
    return response(answers.BUG)
