"""Tasks that serve one call: the first that fails is its failure, and ends the others."""

import asyncio
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Together:
    """A group of tasks, as asyncio's, that raises its first failure itself.

    What is raised leads by its traceback to the frames that it has passed. Where one of these, or
    of asyncio's, leads back to it, all that the tasks had in hand, such as a request's tensors,
    would stay until garbage is looked for.
    """

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task; before the group is left."""
        assert self._group is not None
        return self._group.create_task(work)

    async def __aenter__(self) -> Self:
        self._group = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._group is not None
        failure: BaseException | None = None
        try:
            await self._group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
            failures.__traceback__ = None
        except asyncio.CancelledError as cancelled:
            failure = cancelled
            failure.__traceback__ = None
        self._group = None  # it knows the task that fails, or is cancelled, by what is raised here
        try:
            if failure is not None:
                raise failure
        finally:
            del failure, error, traceback


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order; the first failure is raised and cancels the others."""
    tasks: list[asyncio.Task[T]] = []
    try:
        async with Together() as group:
            tasks += map(group.start, coroutines)
        return [task.result() for task in tasks]
    finally:
        del tasks
