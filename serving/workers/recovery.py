"""What an engine process leaves to its successor: what was counted, and what clients have loaded.

Whoever has been told a count is never told a smaller one: counts are written down before they are
told. What was counted since and told to nobody, for a second at most, is lost with the process.
"""

import asyncio
import logging
import marshal
from collections.abc import Callable, Sequence
from typing import Any, Final

from serving.engine.base import Around, Engine
from serving.errors import Elsewhere, ServingError
from serving.statistics import VersionStatistics
from serving.types import LoadOverride
from serving.workers import records
from serving.workers.ledger import Ledger

logger = logging.getLogger("penstock.workers")

_FORMAT: Final = 2
# In seconds.
_INTERVAL: Final = 1.0


class Ledgers:
    """What is written down, each for itself, since what clients have loaded may be large.

    Of several engines, each has counts of its own beside what the `first` shares with them.
    """

    def __init__(self, first: "Ledgers | None" = None) -> None:
        self.counts = Ledger("what was counted")
        self.models: Ledger = first.models if first else Ledger("which models are loaded")
        self.changes: Ledger = first.changes if first else Ledger("what clients have changed")
        self._own = (self.counts,) if first else (self.counts, self.models, self.changes)

    @property
    def is_empty(self) -> bool:
        """Whether no engine process has come so far as to write anything down."""
        return self.counts.read() is None

    def models_at_start(self) -> tuple[str, ...] | None:
        """What to load as it lies in the repositories; None if no client has changed that."""
        written = _models(self.models)
        if written is None:
            return None
        names, overrides = written
        return tuple(name for name in names if name not in overrides)

    def close(self) -> None:
        """Close them in this process."""
        for ledger in self._own:
            ledger.close()


class LastingCounts(Around):
    """`inner`, and what was counted in the process before this one; for one event loop."""

    def __init__(self, inner: Engine, ledger: Ledger) -> None:
        super().__init__(inner)
        self._ledger = ledger
        self._written = b""
        self._turn = asyncio.Lock()
        self._restored = asyncio.Event()
        if ledger.read() is None:
            self._restored.set()
        self._saving: asyncio.Task[None] | None = None

    async def restore(self) -> None:
        """Go on, once the inner engine has its models, where the one before it ended."""
        before = {(one.model, one.version): one for one in read_counts(self._ledger)}
        for version in await self._inner.counted():
            if one := before.get((version.model, version.version)):
                version.merge(one)
        self._restored.set()
        self._saving = asyncio.create_task(self._save_on())

    async def counted(self) -> Sequence[VersionStatistics]:
        """As the inner engine, with what was counted before; copies, which count no further."""
        await self._restored.wait()
        return await self._told(await self._inner.counted())

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """As the inner engine, with what was counted before; copies, which count no further."""
        await self._restored.wait()
        return await self._told(await self._inner.statistics(model, version))

    async def close(self) -> None:
        """Write nothing down any more, and close the inner engine."""
        if self._saving is not None:
            self._saving.cancel()
        await self._inner.close()

    async def _told(self, versions: Sequence[VersionStatistics]) -> Sequence[VersionStatistics]:
        """What they have counted by now, once no less is written down."""
        told = await records.in_turns(records.copied, versions)
        await self._save()
        return told

    async def _save_on(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            await self._save()

    async def _save(self) -> None:
        """Write down what is counted."""
        # One after the other: what is written has been told, and must not be followed by less.
        async with self._turn:
            plain = await records.in_turns(records.to_plain, await self._inner.counted())
            content = marshal.dumps(plain, _FORMAT)
            if content != self._written and self._ledger.write(content):
                self._written = content


class LastingModels(Around):
    """`inner`, whose successor is to load again what clients have had loaded.

    `inner` is an embedded engine, or is made of some.
    """

    def __init__(self, inner: Any, ledger: Ledger) -> None:
        super().__init__(inner)
        self._ledger = ledger
        self._in_force: Callable[[str, LoadOverride], LoadOverride | None] = inner.in_force
        written = _models(ledger)
        # What came with the loads of models that clients have asked for.
        names, self._overrides = written or ((), {})
        # What the engine before this one served, while this one may have yet to load it.
        self._awaited = set(names)
        # What a start from the repositories alone comes to, nobody knows before its end.
        self._is_open_ended = written is None
        self._is_due = False

    async def started(self) -> None:
        """The inner engine has loaded what it begins with."""
        self._awaited.clear()
        self._is_open_ended = False
        if self._is_due:
            await self._save()

    async def load(self, model: str, override: LoadOverride) -> None:
        """As the inner engine, and of the next one as well."""
        await self._inner.load(model, override)
        if override != LoadOverride():
            self._overrides[model] = override
        await self._save()

    async def reload(self, model: str) -> None:
        """Load a model once more, as the next engine would."""
        await self.load(model, self._overrides.get(model, LoadOverride()))

    async def unload(self, model: str, dependents: bool = False) -> None:
        """As the inner engine, and of the next one as well."""
        await self._inner.unload(model, dependents)
        self._awaited.discard(model)
        await self._save()

    async def _save(self) -> None:
        if self._is_open_ended:
            self._is_due = True
            return
        try:
            ready = await self._inner.index(ready_only=True)
        except ServingError as error:
            # As with a ledger that cannot be written: that costs nobody an answer.
            logger.warning("cannot write down which models are loaded: %s", error.message)
            return
        names = self._awaited.union(entry.name for entry in ready)
        # A later load may have put an end to them, also one of what is made of the model; and what
        # went out of service with a part comes back with neither.
        self._overrides = {
            model: kept
            for model, given in self._overrides.items()
            if model in names and (kept := self._still(model, given)) is not None
        }
        content = sorted(names), records.to_plain(self._overrides)
        self._ledger.write(marshal.dumps(content, _FORMAT))

    def _still(self, model: str, given: LoadOverride) -> LoadOverride | None:
        return given if model in self._awaited else self._in_force(model, given)


async def restore_models(engine: Engine, ledger: Ledger) -> None:
    """Have `engine`, which has just started, load what clients had brought to the one before it."""
    _, overrides = _models(ledger) or ((), {})
    loads = (engine.load(*item) for item in overrides.items())
    for outcome in await asyncio.gather(*loads, return_exceptions=True):
        if isinstance(outcome, Elsewhere):
            continue
        if isinstance(outcome, ServingError):
            logger.error("not loaded again as it was: %s", outcome.message)
        elif isinstance(outcome, BaseException):
            raise outcome


def read_counts(ledger: Ledger) -> Sequence[VersionStatistics]:
    """What an engine has counted, as far as it has come to write it down."""
    counted: Sequence[VersionStatistics] = records.from_plain(_read(ledger) or [])
    return counted


def _models(ledger: Ledger) -> tuple[Sequence[str], dict[str, LoadOverride]] | None:
    """The names of all models that were served, and what some were loaded with; None at first."""
    written = _read(ledger)
    return None if written is None else (written[0], records.from_plain(written[1]))


def _read(ledger: Ledger) -> Any:
    content = ledger.read()
    return None if content is None else marshal.loads(content)
