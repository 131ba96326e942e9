"""Tasks that serve one request: what one comes to all come to, and nothing of them stays."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from serving.errors import Internal
from serving.together import Together, together
from tests.serving.engine.batching.driving import turns


class Sent:
    """What a request holds, which is to go with it."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def give(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def fail(sent: object = None) -> int:
    raise Internal("no answer" if sent is None else "no answer to that")


async def wait(ended: list[bool], sent: object = None) -> int:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(sent is None)
    return 0


async def test_results_come_in_order() -> None:
    assert await together(map(give, range(5))) == [0, 1, 2, 3, 4]


async def test_the_first_failure_is_raised_itself_and_cancels_the_others() -> None:
    ended: list[bool] = []
    with pytest.raises(Internal, match="no answer"):
        await together([wait(ended), give(1), fail()])
    assert ended == [True]


async def test_whoever_is_cancelled_has_all_cancelled() -> None:
    ended: list[bool] = []
    task = asyncio.create_task(together([wait(ended), wait(ended)]))
    await turns(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True, True]


async def fail_in_a_task(sent: Sent) -> None:
    await together([give(1), fail(sent)])


async def fail_beside_one(sent: Sent) -> None:
    async with Together() as group:
        group.start(give(1))
        await fail(sent)


@pytest.mark.parametrize("failing", [fail_in_a_task, fail_beside_one])
@pytest.mark.usefixtures("without_collector")
async def test_what_failed_goes_without_the_garbage_collector(
    failing: Callable[[Sent], Coroutine[Any, Any, None]],
) -> None:
    sent = Sent()
    seen = weakref.ref(sent)
    task = asyncio.create_task(failing(sent))
    del sent
    await asyncio.wait([task])
    assert isinstance(task.exception(), Internal)
    del task
    assert seen() is None


@pytest.mark.usefixtures("without_collector")
async def test_what_is_cancelled_goes_without_the_garbage_collector() -> None:
    ended: list[bool] = []
    sent = Sent()
    seen = weakref.ref(sent)
    task = asyncio.create_task(together([wait(ended, sent), give(1)]))
    del sent
    await turns(3)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    assert seen() is None
