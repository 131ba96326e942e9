"""How the event loop stays awake after an answer."""

import asyncio
import contextlib
import selectors
from typing import cast

import pytest

from serving import busy_poll
from serving.engine.base import Engine
from serving.errors import Unavailable
from serving.types import InferenceRequest, InferenceResponse

REQUEST = InferenceRequest("m", ())
RESPONSE = InferenceResponse("m", "1", ())


class Clock:
    """Stands still until it is set."""

    now = 0

    def monotonic_ns(self) -> int:
        return self.now


class Inner:
    error: Exception | None = None

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        if self.error:
            raise self.error
        return RESPONSE


class Watched(selectors.DefaultSelector):
    """Notes for how long its loop is ready to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waits.append(timeout)
        return super().select(timeout)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(busy_poll, "time", clock)
    return clock


def sleeps(engine: Engine, clock: Clock, then: int) -> tuple[bool, bool]:
    """Whether the loop ever waits in the turns after an answer, and in those at the time `then`."""
    selector = Watched()

    async def turns() -> bool:
        loop, begun = asyncio.get_running_loop(), len(selector.waits)
        while len(selector.waits) < begun + 10:
            woken = loop.create_future()
            loop.call_later(0.001, woken.set_result, None)
            await woken
        return any(wait != 0 for wait in selector.waits[begun:])

    async def main() -> tuple[bool, bool]:
        with contextlib.suppress(Unavailable):
            assert await engine.infer(REQUEST) is RESPONSE
        soon = await turns()
        clock.now = then
        return soon, await turns()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(main())


def test_the_loop_stays_awake_for_as_long_as_it_is_told(clock: Clock) -> None:
    engine = busy_poll.engine(cast(Engine, Inner()), 50)
    assert sleeps(engine, clock, then=49_999) == (False, False)


def test_the_loop_sleeps_again_when_nobody_has_come(clock: Clock) -> None:
    engine = busy_poll.engine(cast(Engine, Inner()), 50)
    assert sleeps(engine, clock, then=50_000) == (False, True)


def test_an_error_is_an_answer_too(clock: Clock) -> None:
    inner = Inner()
    inner.error = Unavailable("gone")
    engine = busy_poll.engine(cast(Engine, inner), 50)
    assert sleeps(engine, clock, then=50_000) == (False, True)


def test_an_engine_is_left_as_it_is_where_nothing_is_asked_for() -> None:
    inner = cast(Engine, Inner())
    assert busy_poll.engine(inner, 0) is inner
