"""Loads that several processes make together: what each has opened serves once all have.

`steps` is one process's part of such a load; whoever brings the parts together takes the steps of
all side by side. A load that nobody accompanies waits for nobody.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Final

from serving.errors import Unavailable


class Abandoned(Unavailable):
    """Another process could not do its part of the load."""


async def _alone() -> None:
    return


_REACHED: Final[ContextVar[Callable[[], Awaitable[None]]]] = ContextVar("reached", default=_alone)


async def reached() -> None:
    """To be awaited before what was opened begins to serve; Abandoned where it must not."""
    await _REACHED.get()()


@contextmanager
def alone() -> Iterator[None]:
    """What is done in the block follows of itself in all processes, and waits for none."""
    token = _REACHED.set(_alone)
    try:
        yield
    finally:
        _REACHED.reset(token)


async def steps(load: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[None, None]:
    """Run `load`: pauses before each thing that it puts into service, and raises what it raises.

    Whoever closes this early abandons what was not put into service yet.
    """
    loop = asyncio.get_running_loop()
    pauses: asyncio.Queue[asyncio.Future[None] | None] = asyncio.Queue()
    paused: list[asyncio.Future[None]] = []
    is_abandoned = False

    async def pause() -> None:
        if is_abandoned:
            raise _abandoned()
        paused.append(loop.create_future())
        pauses.put_nowait(paused[-1])
        await paused[-1]

    def ended(loading: "asyncio.Task[None]") -> None:
        # Looked at, lest asyncio complain where whoever has abandoned it does not.
        loading.cancelled() or loading.exception()
        pauses.put_nowait(None)

    context = copy_context()
    context.run(_REACHED.set, pause)
    loading = loop.create_task(load(), context=context)
    loading.add_done_callback(ended)
    try:
        while allowed := await pauses.get():
            yield
            allowed.set_result(None)
        await loading
    finally:
        is_abandoned = True
        for one in paused:
            if not one.done():
                one.set_exception(_abandoned())


def _abandoned() -> Abandoned:
    return Abandoned("another engine could not load it")
