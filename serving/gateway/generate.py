"""The generate extension: plain JSON in, plain JSON or server-sent events out."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from fastapi import APIRouter, Request, Response
from msgspec import structs
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.engine.base import Engine
from serving.errors import UNEXPECTED, Cancelled, InvalidArgument, ServingError
from serving.gateway import body, examples
from serving.gateway.disconnect import unless_gone
from serving.gateway.routing import for_model, json
from serving.gateway.server_timing import failures_since
from serving.gateway.server_timing import headers as timed
from serving.types import InferenceRequest, InferenceResponse
from serving.wire import generate as wire
from serving.wire import rest_documents as wire_documents

logger = logging.getLogger("penstock.rest")

_TAGS: Final = ["generate"]


def create_router(engine: Engine, limit: int) -> APIRouter:
    """The routes of the extension; `limit` is the largest body in bytes."""
    router = APIRouter(prefix="/v2")

    async def decode(content: bytes, model: str, version: str) -> InferenceRequest:
        metadata = await engine.model_metadata(model, version)
        return wire.decode(model, version, content, metadata.inputs)

    @for_model(
        router,
        "POST",
        "/generate",
        tags=_TAGS,
        responses=examples.GENERATED,
        openapi_extra=examples.GENERATE_REQUEST,
    )
    async def generate(request: Request, model: str, version: str) -> Response:
        """Run the model on JSON members that bear its inputs' names; exactly one response."""
        content = await body.read(request, limit)
        began = time.monotonic_ns()
        with failures_since(began):
            inference = await decode(content, model, version)
            inference = structs.replace(inference, wants_one_response=True)
            response = await unless_gone(request, _only(engine.stream(inference)))
        answer = json(wire.encode(response))
        answer.headers.update(timed(response, began))
        return answer

    @for_model(
        router,
        "POST",
        "/generate_stream",
        tags=_TAGS,
        responses=examples.GENERATED_STREAM,
        # Without it, the documentation would speak of JSON as well.
        response_class=Response,
        openapi_extra=examples.GENERATE_REQUEST,
    )
    async def generate_stream(request: Request, model: str, version: str) -> Response:
        """As generate, with any number of responses as server-sent events.

        What fails before the first of them is answered by its status, as everywhere.
        """
        content = await body.read(request, limit)
        with failures_since(time.monotonic_ns()):
            inference = await decode(content, model, version)
            documents = _documents(engine.stream(inference))
            first = await unless_gone(request, _next(documents))
        return _EventStream(first, documents)

    return router


async def _only(responses: AsyncGenerator[InferenceResponse, None]) -> InferenceResponse:
    found = []
    async with aclosing(responses):
        async for response in responses:
            found.append(response)
            if len(found) > 1:
                break
    if len(found) != 1:
        raise InvalidArgument(
            "generate expects model to produce exactly 1 response, use generate stream for model "
            "that generates various number of responses"
        )
    return found[0]


async def _documents(
    responses: AsyncGenerator[InferenceResponse, None],
) -> AsyncGenerator[bytes, None]:
    async with aclosing(responses):
        async for response in responses:
            yield wire.encode(response)


async def _next(documents: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(documents, None)


class _EventStream(StreamingResponse):
    """An event for each document; when the client goes, `documents` are closed."""

    def __init__(self, first: bytes | None, documents: AsyncGenerator[bytes, None]) -> None:
        super().__init__(self._events(first), media_type=wire.EVENT_STREAM)
        self._documents = documents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it, or as much as somebody reads."""
        async with aclosing(self._documents):
            with suppress(Cancelled):
                await unless_gone(Request(scope, receive), self.stream_response(send))

    async def _events(self, document: bytes | None) -> AsyncGenerator[bytes, None]:
        while document is not None:
            yield wire.event(document)
            try:
                document = await _next(self._documents)
            except ServingError as error:
                yield wire.event(wire_documents.error(error.message))
                return
            except Exception as error:
                logger.exception("generate_stream failed", exc_info=error)
                yield wire.event(wire_documents.error(UNEXPECTED))
                return
