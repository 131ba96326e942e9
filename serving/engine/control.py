"""Model control: loads and unloads as clients and the repositories ask for them.

Loads and unloads of one model happen one after the other, those of different models together.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from weakref import WeakValueDictionary

from serving.config import from_json
from serving.engine import agreement, dependents
from serving.engine.loading import Override, Plan
from serving.engine.override import check_files, unpack
from serving.engine.places import Folder
from serving.engine.registry import UNLOADED, Record, Registry
from serving.engine.repository import Repository, is_model_name
from serving.engine.rollout import Rollout
from serving.errors import (
    Elsewhere,
    InvalidArgument,
    LoadFailed,
    NotFound,
    ServingError,
    Unavailable,
    UnfitOverride,
)
from serving.types import LoadOverride

logger = logging.getLogger("penstock.load")

AS_IT_LIES: Final = LoadOverride()


class ModelControl:
    """Loads and unloads models, ensembles with their parts; to be used on the event loop."""

    def __init__(self, repository: Repository, registry: Registry, rollout: Rollout) -> None:
        self._repository = repository
        self._registry = registry
        self._rollout = rollout
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changes: set[asyncio.Task[None]] = set()
        self._watchers: list[Callable[[], None]] = []
        # Those that were ever made of others: few of many, in the order in which they came.
        self._composed: dict[str, Record] = {}
        self._closing = False

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each load and unload, whatever became of it."""
        self._watchers.append(changed)

    async def load(self, name: str, given: LoadOverride = AS_IT_LIES) -> None:
        """Serve the model as it lies in the repository, or as it is `given`.

        LoadFailed or InvalidArgument say in Triton's words why that is not possible; then what
        served before goes on. Once begun, a load goes on even if its caller goes away.
        """
        await self._change(self._load_given(name, given))

    async def unload(self, name: str, with_parts: bool = False) -> None:
        """Take the model, and those that are made of it, out of service.

        `with_parts` takes its own parts along, but for those that others use or that were loaded
        by their own names. What was accepted is answered in the background.
        """
        await self._change(self._unload(name, with_parts))

    async def close(self) -> None:
        """Refuse changes, finish those under way, take everything out of service and close it."""
        self._closing = True
        self._rollout.stop()
        await asyncio.gather(*self._changes, return_exceptions=True)
        for name in dependents.users_first(self._parts()):
            await self._withdraw(self._registry.record(name))
        for record in self._registry:
            await self._withdraw(record)
        await self._rollout.close()

    async def _change(self, change: Coroutine[Any, Any, None]) -> None:
        if self._closing:
            change.close()
            raise Unavailable("the server is stopping and does not change its models any more")
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        task.add_done_callback(self._tell)
        await asyncio.shield(task)

    def _tell(self, task: "asyncio.Task[None]") -> None:
        # Looked at, lest asyncio complain where the caller has gone; the index tells of failures.
        failure = None if task.cancelled() else task.exception()
        if failure and not isinstance(failure, ServingError):
            logger.error("a change of the models failed", exc_info=failure)
        for changed in self._watchers:
            changed()

    async def _load_given(self, name: str, given: LoadOverride) -> None:
        override = None
        if given != AS_IT_LIES:
            override = await self._rollout.in_thread(_override, name, given)
        if not given.files:
            await self._load(self._repository, name, override, by_name=True)
            return
        scratch = await self._rollout.in_thread(_scratch_folder, name)
        try:
            folder = Path(scratch.name)
            await self._rollout.in_thread(unpack, given.files, folder / name)
            await self._load(
                Repository([Folder(folder, lasts=False)]), name, override, by_name=True
            )
        finally:
            await asyncio.to_thread(scratch.cleanup)

    async def _load(
        self,
        repository: Repository,
        name: str,
        override: Override | None = None,
        by_name: bool = False,
        above: tuple[str, ...] = (),
    ) -> None:
        """Load the parts of the model, itself, and those made of it anew, but for those `above`."""
        known = self._registry.get(name)
        in_force = known.override if known else None
        plan = await self._rollout.plan(repository, name, override or in_force)
        record = self._registry.record(name)
        self._ask(record, plan, by_name)
        for part in plan.parts:
            await self._load_part(record, part, (*above, name))
        async with self._lock(name):
            # The lock may have been waited for, and the model unloaded meanwhile: look again.
            plan = await self._rollout.plan(repository, name, override or record.override)
            self._ask(record, plan, by_name)
            await self._rollout.serve(record, plan)
        for user in dependents.direct_users(name, self._parts()):
            if user not in above:
                await self._reload(self._registry.record(user))

    def _ask(self, record: Record, plan: Plan, by_name: bool) -> None:
        record.ask(plan, by_name)
        if plan.parts:
            self._composed[record.name] = record

    async def _load_part(self, record: Record, part: str, above: tuple[str, ...]) -> None:
        """Load a part of the model of `record`, which may do with the part as it serves already."""
        try:
            if part in above:
                raise dependents.Circle(above[above.index(part) :])
            await self._load(self._repository, part, above=above)
        except Elsewhere:
            raise  # and so is what is made of it
        except ServingError as error:
            if self._registry.serves(part):
                logger.warning("%s goes on with what serves of %s: %s", record.name, part, error)
                return
            reason = _why_not(record.name, part, error)
            record.fail(reason)
            raise InvalidArgument(f"load failed for model '{record.name}': {reason}") from error

    async def _reload(self, record: Record) -> None:
        """Have a model follow its parts, of which one has changed, and others follow it."""
        try:
            async with self._lock(record.name):
                plan = record.plan if record.wanted else None
                if plan is None or not all(map(self._registry.serves, plan.parts)):
                    return
                with agreement.alone():
                    await self._rollout.serve(record, plan)
                record.suspended = False
        except ServingError as error:
            # It would not fit what its parts answer now.
            logger.error("%s goes out of service with its parts: %s", record.name, error)
            await self._take_out(record, error.message)
        for user in dependents.direct_users(record.name, self._parts()):
            await self._reload(self._registry.record(user))

    async def _unload(self, name: str, with_parts: bool, above: tuple[str, ...] = ()) -> None:
        """As `unload`; of a circle of models, those `above` are being unloaded already."""
        record = self._registry.get(name)
        if record is None:
            return
        await self._take_out(record, note=record.dismiss)
        if with_parts and record.plan:
            for part in map(self._registry.record, record.plan.parts):
                used = dependents.direct_users(part.name, self._parts())
                is_used = part.explicit or any(map(self._registry.serves, used))
                if not is_used and part.name not in (*above, name):
                    await self._unload(part.name, with_parts, (*above, name))

    async def _take_out(
        self, record: Record, reason: str = UNLOADED, note: Callable[[], None] = lambda: None
    ) -> None:
        """As `_withdraw`, after all that is made of the model, which comes back with it."""
        is_out = False
        while not is_out:
            for user in self._users(record):
                if not await self._withdraw(user, note=user.suspend):
                    break
            else:
                is_out = await self._withdraw(record, reason, note)

    async def _withdraw(
        self, record: Record, reason: str = UNLOADED, note: Callable[[], None] = lambda: None
    ) -> bool:
        """Out of service, as `note` notes; what is made of others, which it needs, closed as well.

        What is being loaded at the moment is noted and taken out of service once it has been.
        False if it stays, as something that is made of it has begun to serve by then.
        """
        async with self._lock(record.name):
            if any(user.serving for user in self._users(record)):
                return False
            note()
            drains = self._rollout.withdraw(record, reason)
        if drains and record.plan and record.plan.parts:
            await asyncio.wait(drains)
        return True

    def _users(self, record: Record) -> list[Record]:
        """All models made of that one, each before those that it is made of."""
        return [*map(self._registry.record, dependents.users(record.name, self._parts()))]

    def _parts(self) -> dependents.Parts:
        return {
            record.name: record.plan.parts
            for record in self._composed.values()
            if record.plan and record.wanted
        }

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


def _override(name: str, given: LoadOverride) -> Override | None:
    """The override in a client's request; UnfitOverride if it cannot be one."""
    try:
        check_files(given.files, given.config is not None)
        if given.files and not is_model_name(name):
            raise InvalidArgument(f"{name!r} is not a model name")
        if given.config is None:
            return None
        return Override(from_json(given.config, "the parameter 'config'"))
    except ServingError as error:
        raise UnfitOverride(
            f"failed to load '{name}', failed to poll from model repository: {error.message}"
        ) from error


def _why_not(name: str, part: str, error: ServingError) -> str:
    if told := _circle(name, error):
        return told
    if isinstance(error.__cause__, NotFound):
        return f"ensemble {name} contains models that are not available or ambiguous: {part}"
    return (
        f"ensemble '{name}' depends on '{part}' which has no loaded version. Model '{part}' "
        f"loading failed with error: {error.message}"
    )


def _circle(name: str, error: BaseException | None) -> str | None:
    """What is wrong with the model if it is in the circle that `error` came of."""
    while error is not None:
        if isinstance(error, dependents.Circle):
            return error.of(name)
        error = error.__cause__
    return None


def _scratch_folder(name: str) -> "TemporaryDirectory[str]":
    try:
        return TemporaryDirectory(prefix="penstock-load-")
    except OSError as error:  # such as in a container whose file system is read-only
        raise LoadFailed(
            f"failed to load '{name}': there is no place for the files that it was given: "
            f"{error.strerror}; start the server with TMPDIR naming a folder that it may write to"
        ) from error
