"""What routes of all modules share: a model and a version in the path, and JSON for an answer."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Request, Response

from serving.gateway import examples
from serving.gateway.answers import Answer

Model = Annotated[str, Path(description="The model's name.", openapi_examples=examples.MODEL)]
Version = Annotated[
    str, Path(description="The version's number.", openapi_examples=examples.VERSION)
]
RegionName = Annotated[
    str, Path(description="The region's name.", openapi_examples=examples.REGION)
]
Handler: TypeAlias = Callable[[Request, str, str], Awaitable[Response]]


def json(content: bytes) -> Response:
    """An answer of JSON."""
    return Response(content, media_type="application/json")


def response(answer: Answer) -> Response:
    """An answer as the framework has it."""
    content = b"".join((answer.content, *answer.tensors))
    return Response(
        content, answer.status, headers=dict(answer.headers), media_type=answer.media_type
    )


def for_model(
    router: APIRouter, method: str, suffix: str, **options: Any
) -> Callable[[Handler], Handler]:
    """Route `handler(request, model, version)` with and without a version in the path."""

    def register(handler: Handler) -> Handler:
        async def latest(request: Request, model: Model) -> Response:
            return await handler(request, model, "")

        async def versioned(request: Request, model: Model, version: Version) -> Response:
            return await handler(request, model, version)

        for path, endpoint in (
            ("/models/{model}", latest),
            ("/models/{model}/versions/{version}", versioned),
        ):
            router.add_api_route(
                path + suffix,
                endpoint,
                methods=[method],
                name=f"{handler.__name__}_{endpoint.__name__}",
                description=handler.__doc__,
                summary=handler.__name__.replace("_", " ").capitalize(),
                **options,
            )
        return handler

    return register
