"""Several engines, each in a process of its own, as one: what they load, list and have counted.

The first of them has this. It answers for all but for inference, which workers bring to each engine
themselves (`spread`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple
from enum import Enum, auto
from typing import Any, Final, NamedTuple, TypeAlias

from serving.engine.base import Around
from serving.errors import Elsewhere, InvalidArgument, Unavailable
from serving.statistics import CacheStatistics, VersionStatistics
from serving.types import IndexEntry, LoadOverride, ModelState
from serving.workers import records
from serving.workers.ledger import Ledger
from serving.workers.link import RETRY_AFTER, Lost
from serving.workers.recovery import read_counts
from serving.workers.remote import RemoteEngine

# Of a version that engines tell of differently, the first of these holds: it is ready with all.
_PRECEDENCE: Final = (
    ModelState.LOADING,
    ModelState.UNLOADING,
    ModelState.READY,
    ModelState.UNAVAILABLE,
    ModelState.UNKNOWN,
)

Steps: TypeAlias = AsyncGenerator[None, None]


class Peer(NamedTuple):
    """Another engine, and where it writes down what it counts."""

    engine: RemoteEngine
    counts: Ledger

    async def counted(self) -> Sequence[VersionStatistics]:
        """What it has counted, also while it is not there."""
        with suppress(Unavailable):
            return await self.engine.counted()
        return read_counts(self.counts)


class JoinedEngine(Around):
    """`own`, which is in this process, and its `peers`; to be used on one event loop."""

    def __init__(self, own: Any, peers: Sequence[Peer]) -> None:
        super().__init__(own)
        self._peers = peers
        # Two loads that begin in one order here and in another there would wait for each other.
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect to those that are there."""
        await asyncio.gather(*(peer.engine.start() for peer in self._peers))

    async def started(self) -> None:
        """Wait until all peers have come to the end of their start."""
        await asyncio.gather(*(peer.engine.started() for peer in self._peers))

    async def ready(self) -> bool:
        """True while all that are there say so."""
        asked = [self._inner, *(peer.engine for peer in self._peers if peer.engine.is_up)]
        return all(await asyncio.gather(*(engine.ready() for engine in asked)))

    async def counted(self) -> Sequence[VersionStatistics]:
        """The sums of what all have counted."""
        counts = await asyncio.gather(*(peer.counted() for peer in self._peers))
        # Last: no more may be told of its own than it has written down by now.
        own = await records.in_turns(records.copied, await self._inner.counted())
        return _sums((own, *counts))

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """The sums for those versions that any engine knows by these names."""
        engines = (self._inner, *(peer.engine for peer in self._peers))
        asked = (engine.statistics(model, version) for engine in engines)
        told = await asyncio.gather(*asked, return_exceptions=True)
        known = {
            (one.model, one.version)
            for each in told
            if not isinstance(each, BaseException)
            for one in each
        }
        if isinstance(told[0], BaseException) and not known:
            raise told[0]
        return [one for one in await self.counted() if (one.model, one.version) in known]

    async def cache_statistics(self) -> CacheStatistics | None:
        """The sums over all response caches that are there."""
        found = [await self._inner.cache_statistics()]
        for peer in self._peers:
            with suppress(Unavailable):
                found.append(await peer.engine.cache_statistics())
        counts = [astuple(each) for each in found if each is not None]
        return CacheStatistics(*map(sum, zip(*counts, strict=True))) if counts else None

    async def unloaded(self) -> Sequence[str]:
        """Those that any engine could not load."""
        names = set(await self._inner.unloaded())
        for peer in self._peers:
            with suppress(Unavailable):
                names.update(await peer.engine.unloaded())
        return sorted(names)

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        """What all that are there say of each model; ready is what is ready with all of them."""
        told = [await self._inner.index()]
        for peer in self._peers:
            with suppress(Unavailable):
                told.append(await peer.engine.index())
        entries = merged(entry for each in told for entry in each)
        return [one for one in entries if not ready_only or one.state is ModelState.READY]

    async def outdated(self) -> Sequence[str]:
        """Those of which any engine that is there serves what lies in their folders no more."""
        own: Any = self._inner
        names = set(await own.outdated())
        for peer in self._peers:
            with suppress(Unavailable):
                names.update(await peer.engine.outdated())
        return sorted(names)

    def watch_returns(self, returned: Callable[[], None]) -> None:
        """Have `returned` called whenever another engine is there again."""
        for peer in self._peers:
            peer.engine.watch(_on_rise(peer.engine, returned))

    async def load(self, model: str, override: LoadOverride) -> None:
        """Load a model in all engines: it serves in all once all have opened it, or in none."""
        await self._change(self._load(model, override))

    async def unload(self, model: str, dependents: bool = False) -> None:
        """Take a model out of service in all engines."""
        await self._change(self._unload(model, dependents))

    async def close(self) -> None:
        """Close the engine of this process, and leave the others."""
        await asyncio.gather(self._inner.close(), *(peer.engine.close() for peer in self._peers))

    async def _change(self, change: Coroutine[Any, Any, None]) -> None:
        """Once begun, a change goes on even if its caller goes away."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _load(self, model: str, override: LoadOverride) -> None:
        async with self._turn:
            engines = self._all()
            parts = [engine.prepare(model, override) for engine in engines]
            try:
                elsewhere = await side_by_side(parts)
            finally:
                await asyncio.gather(*(part.aclose() for part in parts))
            if len(elsewhere) == len(parts):
                raise InvalidArgument(
                    f"load failed for model '{model}': no engine process has GPUs for all of it: "
                    "start the server with --engines=1"
                )
            for index in elsewhere:
                # It may have had instances there before.
                await engines[index].unload(model)

    async def _unload(self, model: str, dependents: bool) -> None:
        async with self._turn:
            unloads = (engine.unload(model, dependents) for engine in self._all())
            for outcome in await asyncio.gather(*unloads, return_exceptions=True):
                # The next start of one that is lost will not find the model.
                if isinstance(outcome, BaseException) and not isinstance(outcome, Lost):
                    raise outcome

    def _all(self) -> Sequence[Any]:
        """All engines; Unavailable while one is missing, which would not hear of the change."""
        engines = [peer.engine for peer in self._peers]
        if not all(engine.is_up for engine in engines):
            raise Unavailable(
                "an engine is being started again; models change when it is there", RETRY_AFTER
            )
        return (self._inner, *engines)


def _on_rise(engine: RemoteEngine, returned: Callable[[], None]) -> Callable[[], None]:
    was_up = engine.is_up

    def changed() -> None:
        nonlocal was_up
        is_back, was_up = engine.is_up and not was_up, engine.is_up
        if is_back:
            returned()

    return changed


class _Step(Enum):
    BEGUN = auto()
    PAUSED = auto()
    SERVES = auto()
    ELSEWHERE = auto()


async def side_by_side(parts: Sequence[Steps]) -> list[int]:
    """Take the steps of all `parts` together, until all serve or one raises, which is raised.

    Gives the numbers of those parts that have nothing to serve.
    """
    came_to = [_Step.BEGUN] * len(parts)
    while going := [n for n, step in enumerate(came_to) if step in (_Step.BEGUN, _Step.PAUSED)]:
        # All of them, lest one be closed that is still on its way.
        taken = (_step(parts[number]) for number in going)
        outcomes = await asyncio.gather(*taken, return_exceptions=True)
        for number, outcome in zip(going, outcomes, strict=True):
            if isinstance(outcome, Lost) and came_to[number] is _Step.PAUSED:
                # Others may serve it by now; the next start of this one will find it.
                came_to[number] = _Step.SERVES
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                came_to[number] = outcome
    return [number for number, step in enumerate(came_to) if step is _Step.ELSEWHERE]


async def _step(part: Steps) -> _Step:
    try:
        await anext(part)
    except StopAsyncIteration:
        return _Step.SERVES
    except Elsewhere:
        return _Step.ELSEWHERE
    return _Step.PAUSED


def merged(entries: Iterable[IndexEntry]) -> list[IndexEntry]:
    """One line of those that several engines have of the same version, sorted by model."""
    found: dict[tuple[str, str], IndexEntry] = {}
    for entry in entries:
        key = (entry.name, entry.version)
        if key not in found or _rank(entry) < _rank(found[key]):
            found[key] = entry
    told = {name for name, version in found if version}
    # A line without a version says nothing of a model that has some, unless it says what is wrong.
    kept = [one for one in found.values() if one.version or one.state or one.name not in told]
    return sorted(kept, key=lambda one: (one.name, int(one.version or 0)))


def _rank(entry: IndexEntry) -> int:
    return len(_PRECEDENCE) if entry.state is None else _PRECEDENCE.index(entry.state)


def _sums(counts: Iterable[Sequence[VersionStatistics]]) -> list[VersionStatistics]:
    """Of all, added to the first of each version; its summaries are of its engine alone."""
    found: dict[tuple[str, str], VersionStatistics] = {}
    for one in (one for each in counts for one in each):
        key = (one.model, one.version)
        if key in found:
            found[key].add(one)
        else:
            found[key] = one
    return list(found.values())
