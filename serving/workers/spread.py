"""Several engines as a worker has them: each request goes to the one that has least in hand.

What must be one, such as loads and statistics, the first engine answers for all (`joined`).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from itertools import count
from typing import Any, Final, TypeVar
from zlib import crc32

from serving.engine.base import Around, Engine
from serving.errors import NotFound, Unavailable
from serving.types import InferenceRequest, InferenceResponse, ModelMetadata, ServerMetadata
from serving.workers.link import Lost
from serving.workers.remote import RemoteEngine

T = TypeVar("T")

# What an engine says that does not have the model, while another may have it.
_REFUSED: Final = (NotFound, Unavailable)
# Clients may ask for any name.
_MAX_ABSENT: Final = 1024


class _Member:
    """An engine, how much this worker has asked of it, and which models it does not have."""

    def __init__(self, engine: RemoteEngine) -> None:
        self.engine = engine
        self.outstanding = 0
        self.turn = 0
        self.absent: set[str] = set()
        self._changes = 0
        engine.watch(self._changed)

    @contextmanager
    def asked(self, model: str) -> Iterator[None]:
        """For as long as it has a request in hand."""
        changes = self._changes
        self.outstanding += 1
        try:
            yield
        except _REFUSED as error:
            # Of a model that has come meanwhile, that would be wrong by now.
            if changes == self._changes and len(self.absent) < _MAX_ABSENT and _may_pass_on(error):
                self.absent.add(model)
            raise
        finally:
            self.outstanding -= 1

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The engine's answer."""
        with self.asked(request.model):
            return await self.engine.infer(request)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The engine's answers."""
        with self.asked(request.model):
            async with aclosing(self.engine.stream(request)) as responses:
                async for response in responses:
                    yield response

    def _changed(self) -> None:
        self._changes += 1
        self.absent.clear()


def spread(engines: Sequence[RemoteEngine]) -> Engine:
    """`engines` as one."""
    return engines[0] if len(engines) == 1 else SpreadEngine(engines).engine


class SpreadEngine(Around):
    """Has one of `engines` answer each request; to be used on one event loop."""

    def __init__(self, engines: Sequence[RemoteEngine]) -> None:
        super().__init__(engines[0])
        self._engines = engines
        self._members = [_Member(engine) for engine in engines]
        self._turns = count(1)

    async def ready(self) -> bool:
        """True while any engine is there, and all that are say so."""
        there = [engine for engine in self._engines if engine.is_up]
        return bool(there) and all(await asyncio.gather(*(engine.ready() for engine in there)))

    async def metadata(self) -> ServerMetadata:
        """What any engine says of itself."""
        return await _first(self._there(), lambda member: member.engine.metadata())

    async def model_ready(self, model: str, version: str = "") -> bool:
        """True if any engine says so."""
        asked = (engine.model_ready(model, version) for engine in self._engines)
        return any(await asyncio.gather(*asked))

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The model's signature and passport."""
        there = self._there()
        return await _first(there, lambda member: member.engine.model_metadata(model, version))

    async def labels(self, model: str, version: str = "") -> Mapping[str, tuple[str, ...]]:
        """The class names of the outputs that have any."""
        return await _first(self._there(), lambda member: member.engine.labels(model, version))

    async def model_config(self, model: str, version: str = "") -> Any:
        """The complete configuration in force."""
        there = self._there()
        return await _first(there, lambda member: member.engine.model_config(model, version))

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """One engine's answer; another's where the first does not have the model."""
        return await _first(self._order(request), lambda member: member.infer(request))

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses of one engine, chosen in the same way."""
        *others, last = self._order(request)
        for member in others:
            has_begun = False
            try:
                async with aclosing(member.stream(request)) as responses:
                    async for response in responses:
                        has_begun = True
                        yield response
                return
            except _REFUSED as error:
                if has_begun or not _may_pass_on(error):
                    raise
        async with aclosing(last.stream(request)) as responses:
            async for response in responses:
                yield response

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when an engine comes or goes, and when models do."""
        for engine in self._engines:
            engine.watch(changed)

    async def finish_sequences(self) -> None:
        """Wait for the sequences of all."""
        await asyncio.gather(*(engine.finish_sequences() for engine in self._engines))

    async def close(self) -> None:
        """End the connections."""
        await asyncio.gather(*(engine.close() for engine in self._engines))

    def _there(self) -> list[_Member]:
        return [one for one in self._members if one.engine.is_up] or self._members

    def _order(self, request: InferenceRequest) -> list[_Member]:
        """In which order engines are asked, until one has the model.

        The steps of a sequence find the engine that has its state by its id, over any worker.
        """
        if sequence := request.parameters.get("sequence_id"):
            home = crc32(f"{request.model}/{sequence}".encode()) % len(self._members)
            return self._members[home:] + self._members[:home]
        there = self._there()
        having = [one for one in there if request.model not in one.absent] or there
        order = sorted(having, key=lambda one: (one.outstanding, one.turn))
        order[0].turn = next(self._turns)
        return order


async def _first(members: Sequence[_Member], ask: Callable[[_Member], Awaitable[T]]) -> T:
    """The answer of the first that does not refuse, or else what the last one says."""
    *others, last = members
    for member in others:
        try:
            return await ask(member)
        except _REFUSED as error:
            if not _may_pass_on(error):
                raise
    return await ask(last)


def _may_pass_on(error: Exception) -> bool:
    """Whether another engine may be asked: nobody knows how far a lost one has come."""
    return not isinstance(error, Lost)
