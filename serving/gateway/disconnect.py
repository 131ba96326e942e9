"""Work for an HTTP client that may go away before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from serving.errors import Cancelled

_Result = TypeVar("_Result")


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled when the client of `request` closes the connection.

    The request's body must have been read. Raises Cancelled, for nobody to read.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_cancel_when_gone(request, task))
    try:
        return await task
    except asyncio.CancelledError:
        if not watcher.done():
            # Not the client, but whoever runs the handler has cancelled.
            raise
        raise Cancelled("the client closed the connection before there was an answer") from None
    finally:
        task.cancel()
        watcher.cancel()


async def _cancel_when_gone(request: Request, task: "asyncio.Task[Any]") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()
