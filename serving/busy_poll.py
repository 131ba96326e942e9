"""Looks for the next request for a while instead of going to sleep: who was answered may ask again.

A processor that sleeps takes its time to wake up, in a virtual machine longer than a small model
runs. So while requests follow each other closely the event loop can stay awake between them, at the
price of a processor that is busy meanwhile.
"""

import asyncio
import time

from serving.engine.base import Around, Engine
from serving.types import InferenceRequest, InferenceResponse

_NS_PER_US = 1000


def engine(inner: Engine, microseconds: int) -> Engine:
    """`inner`, after each of whose answers the loop is awake for that long; 0: `inner` itself."""
    return _AwakeEngine(inner, microseconds * _NS_PER_US).engine if microseconds else inner


class _AwakeEngine(Around):
    """Every verb is the inner engine's."""

    def __init__(self, inner: Engine, duration: int) -> None:
        super().__init__(inner)
        self._duration = duration
        self._until = 0
        self._is_awake = False

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """As the inner engine."""
        try:
            return await self._inner.infer(request)
        finally:
            self._until = time.monotonic_ns() + self._duration
            if not self._is_awake:
                self._is_awake = True
                self._look(asyncio.get_running_loop())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # Between two calls of this the loop looks at its sockets; while any is due it never waits.
        if time.monotonic_ns() < self._until:
            loop.call_soon(self._look, loop)
        else:
            self._is_awake = False
