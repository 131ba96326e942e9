"""Asks the authorisation before a call goes on: around the application, before gRPC's methods."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Code, ServingError
from serving.gateway import access, answers, calls, groups
from serving.gateway.authorisation import Authorisation
from serving.gateway.errors import Statuses
from serving.gateway.routing import response


def http(app: ASGIApp, authorisation: Authorisation, status: Mapping[Code, int]) -> ASGIApp:
    """`app`, for those who may; the body of a refused request is not read."""
    if not authorisation.is_on:
        return app

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            name = authorisation.check(groups.of_path(scope["path"]), scope["headers"])
        except ServingError as error:
            await response(answers.of_error(error, status))(scope, receive, send)
            return
        access.CALLER.set(name)
        await app(scope, receive, send)

    return call


def interceptors(authorisation: Authorisation, statuses: Statuses) -> list[Any]:
    """What a gRPC server takes to ask for every call; nothing where nothing is asked."""
    return [_Interceptor(authorisation, statuses)] if authorisation.is_on else []


class _Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # an untyped library
    def __init__(self, authorisation: Authorisation, statuses: Statuses) -> None:
        self._authorisation = authorisation
        self._statuses = statuses

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The method's own handler, or one that refuses."""
        method = handler_call_details.method
        headers = [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in handler_call_details.invocation_metadata
        ]
        try:
            name = self._authorisation.check(groups.of_method(method), headers)
        except ServingError as error:
            return _refusing(method.rpartition("/")[2], error, self._statuses)
        access.CALLER.set(name)
        return await continuation(handler_call_details)


def _refusing(name: str, error: ServingError, statuses: Statuses) -> Any:
    """A handler for any kind of method: as for a stream's, no message is waited for."""

    async def refuse(_: Any, context: calls.Context) -> None:
        status = statuses.grpc[error.code].name
        access.Access("grpc", name, status, error=error.message, peer=context.peer()).log()
        await calls.abort(context, error, statuses)

    return grpc.stream_stream_rpc_method_handler(refuse)
