"""A version whose answers may come from the response cache, whatever it is that computes them."""

import time

from serving.engine.cache import ResponseCache, request_key
from serving.engine.servable import OneResponse, Opened, Servable
from serving.statistics import VersionStatistics
from serving.types import InferenceRequest, InferenceResponse, Tensor, Timing


class CachedVersion(OneResponse):
    """Asks the cache before it asks `servable`, and lets it remember every answer.

    Equal requests that run at the same time run each; the cache keeps the answer to the last.
    """

    def __init__(self, servable: Servable, cache: ResponseCache) -> None:
        self._servable = servable
        self._cache = cache
        self._closed = False

    @property
    def opened(self) -> Opened:
        """What the servable was made of."""
        return self._servable.opened

    @property
    def statistics(self) -> VersionStatistics:
        """The servable's counters, into which hits and misses are counted."""
        return self._servable.statistics

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The remembered answer to the same request, or a new one.

        What is remembered was valid once, and is not looked at again.
        """
        arrived = time.monotonic_ns()
        key = request_key(request)
        outputs = self._cache.lookup(self, key)
        looked_up = time.monotonic_ns() - arrived
        if outputs is not None:
            return self._remembered(request, outputs, looked_up)
        response = await self._servable.infer(request)
        begin = time.monotonic_ns()
        if not self._closed:
            self._cache.insert(self, key, response.outputs)
        self.statistics.record_cache_miss(looked_up + time.monotonic_ns() - begin)
        return response

    async def finish_sequences(self) -> None:
        """As the servable does."""
        await self._servable.finish_sequences()

    async def close(self) -> None:
        """Close the servable and forget what it has answered."""
        await self._servable.close()
        self._closed = True
        self._cache.drop(self)

    def _remembered(
        self, request: InferenceRequest, outputs: tuple[Tensor, ...], elapsed: int
    ) -> InferenceResponse:
        self.statistics.record_cache_hit(elapsed)
        return InferenceResponse(
            model=self.opened.config.name,
            version=self.opened.version,
            outputs=outputs,
            id=request.id,
            timing=Timing(0, 0, 0, 0, 0),
        )
