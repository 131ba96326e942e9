"""One model at a time: opened aside, warmed, put in place at once; what it replaces drains.

Nothing is taken away before its successor answers: what fails leaves what serves alone.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from serving.config import ModelConfig
from serving.engine import agreement, gpu_memory
from serving.engine.acceleration import Builder
from serving.engine.backends.thread_plan import thread_plan
from serving.engine.loading import Loader, NoVersion, Override, Plan, VersionFailed, close, why
from serving.engine.registry import UNLOADED, Record, Registry, Served
from serving.engine.repository import Repository
from serving.engine.servable import Opened, Servable
from serving.errors import (
    Elsewhere,
    InvalidArgument,
    LoadFailed,
    NotFound,
    ServingError,
    Unavailable,
    UnfitOverride,
)
from serving.threads import processors

T = TypeVar("T")

logger = logging.getLogger("penstock.load")


class Rollout:
    """Puts what a repository holds into service and out of it; to be used on the event loop.

    `assemble` makes an opened version answer requests. At most `threads` models are opened at a
    time. Who calls sees to it that only one task changes a model.
    """

    def __init__(
        self,
        loader: Loader,
        registry: Registry,
        assemble: Callable[[Opened], Servable],
        threads: int,
    ) -> None:
        self._loader = loader
        self._registry = registry
        self._assemble = assemble
        # Not the loop's own threads: those serve requests, and a load may take them for minutes.
        self._pool = ThreadPoolExecutor(threads, "penstock-load")
        # What is opened is put in place before the next is: thousands at a time would have the loop
        # do nothing else for seconds.
        self._opening = asyncio.Semaphore(threads)
        self._budget = processors().for_models
        self._builder = Builder()
        self._drains: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """What `work` returns, in one of the threads for loading; Unavailable after `stop`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._unless_stopped, work, *arguments)

    async def plan(self, repository: Repository, name: str, override: Override | None) -> Plan:
        """What there is to serve of the model.

        UnfitOverride where the fault is the override's; InvalidArgument where the version policy
        leaves nothing; Elsewhere where others serve it; else LoadFailed, which the index tells of
        if the model has a folder.
        """
        try:
            return await self.in_thread(self._loader.plan, repository, name, override)
        except Elsewhere:
            raise
        except ServingError as error:
            given = override is not None and override.snapshot is None
            if not given and not isinstance(error, NotFound | InvalidArgument):
                self._registry.record(name).refuse(error.message)
            if isinstance(error, NoVersion):
                raise InvalidArgument(
                    f"load failed for model '{name}': at least one version must be available under "
                    f"the version policy of model '{name}': {error.message}"
                ) from error
            kind = UnfitOverride if given else LoadFailed
            raise kind(
                f"failed to load '{name}', failed to poll from model repository: {error.message}"
            ) from error

    async def serve(self, record: Record, plan: Plan) -> None:
        """Bring the model into the state of `plan`; InvalidArgument if a version does not load.

        Where other processes load it as well, Abandoned if one of them cannot.

        Versions of which nothing has changed go on as they are, with all that they have counted.
        """
        made_of = {str(version): self._made_of(plan, version) for version in plan.versions}
        kept = {
            version: served
            for version, served in record.serving.items()
            if made_of.get(version) == served.made_of
        }
        begin = time.monotonic()
        opened = await self._open(record, plan, made_of.keys() - kept.keys())
        await self._agree(record, opened)
        serving = {
            version: kept.get(version) or Served(opened[version], made)
            for version, made in made_of.items()
        }
        for version, served in kept.items():
            # The one thing that may change of a version that stays.
            policy = plan.versions[int(version)].config.version_policy
            served.servable.opened.config.proto.version_policy.CopyFrom(policy)
        self._replace(record, serving)
        record.plan, record.override = plan, plan.override
        if opened:
            self._tell(record.name, opened, time.monotonic() - begin)
        for servable in opened.values():
            if servable.opened.acceleration is not None:
                self._builder.build(servable.opened.acceleration)

    def withdraw(self, record: Record, reason: str = UNLOADED) -> set["asyncio.Task[None]"]:
        """Take the model out of service; done with the tasks, all that was accepted is answered."""
        return self._replace(record, {}, reason)

    def stop(self) -> None:
        """Begin nothing new in the threads for loading, whatever waits for one."""
        self._stopped = True

    async def close(self) -> None:
        """Wait until everything that was taken out of service is closed."""
        if self._drains:
            await asyncio.wait(self._drains)
        await self._builder.close()
        self._pool.shutdown(wait=False)

    def _unless_stopped(self, work: Callable[..., T], *arguments: object) -> T:
        if self._stopped:
            raise Unavailable("the server is stopping and does not change its models any more")
        return work(*arguments)

    def _made_of(self, plan: Plan, version: int) -> Hashable:
        parts = (self._registry.record(part).serving for part in plan.parts)
        return plan.versions[version].made_of, tuple(tuple(part.values()) for part in parts)

    async def _open(
        self, record: Record, plan: Plan, versions: Collection[str]
    ) -> Mapping[str, Servable]:
        """These versions, ready to answer; InvalidArgument if one of them cannot be."""
        if not versions:
            return {}
        record.begin(versions)
        try:
            async with self._opening:
                ascending = sorted(map(int, versions))
                return self._assembled(await self.in_thread(self._loader.open, plan, ascending))
        except VersionFailed as error:
            record.fail(error.message, error.version)
            raise InvalidArgument(
                f"load failed for model '{record.name}': version {error.version} is at UNAVAILABLE "
                f"state: {error.message};"
            ) from error
        except BaseException as error:
            record.fail(repr(error))
            raise

    async def _agree(self, record: Record, opened: Mapping[str, Servable]) -> None:
        """Wait until other processes have opened it as well; or have it never opened here."""
        try:
            await agreement.reached()
        except BaseException as error:
            logger.info("%s goes on as it was: %s", record.name, error)
            for servable in opened.values():
                self._drain_soon(servable)
            record.abandon()
            raise

    def _assembled(self, opened: Sequence[Opened]) -> Mapping[str, Servable]:
        servables = {}
        for index, one in enumerate(opened):
            try:
                servables[one.version] = self._assemble(one)
            except BaseException as error:
                for servable in servables.values():
                    self._drain_soon(servable)
                for other in opened[index:]:
                    close(other.sessions)
                if isinstance(error, Exception):
                    raise VersionFailed(int(one.version), why(error)) from error
                raise
        return servables

    def _tell(self, name: str, opened: Mapping[str, Servable], seconds: float) -> None:
        """Log what was loaded, and how much of the processors it takes."""
        versions = [each.opened for each in opened.values()]
        plans = {
            told_of(each.config, self._budget, each.acceleration is not None)
            for each in versions
            if not each.config.is_ensemble
        }
        threads = f": {', '.join(sorted(plans))}" if plans else ""
        logger.info("loaded %s version %s in %.2f s%s", name, ", ".join(opened), seconds, threads)

    def _replace(
        self, record: Record, serving: Mapping[str, Served], reason: str = UNLOADED
    ) -> set["asyncio.Task[None]"]:
        return {
            self._drain_soon(served.servable, partial(record.drained, version, reason))
            for version, served in record.swap(serving)
        }

    def _drain_soon(
        self, servable: Servable, done: Callable[[], None] = lambda: None
    ) -> "asyncio.Task[None]":
        if servable.opened.acceleration is not None:
            servable.opened.acceleration.cancel()
        task = asyncio.create_task(_drain(servable, done))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)
        return task


def told_of(config: ModelConfig, budget: int, plain: bool = False) -> str:
    """How many instances, with how many threads, and on which GPUs if on any.

    With `plain`, their accelerators are left out.
    """
    plan = str(thread_plan(config.proto, budget))
    places = [place for place in config.placements if place.gpu is not None]
    gpus = dict.fromkeys(str(place.plain if plain else place) for place in places)
    return f"{plan} on {', '.join(gpus)}" if gpus else plan


async def _drain(servable: Servable, done: Callable[[], None]) -> None:
    config = servable.opened.config
    try:
        with gpu_memory.told(f"closed {config.name}", config.placements):
            await servable.close()
        logger.info("closed %s version %s", config.name, servable.opened.version)
    except Exception:
        logger.exception("%s version %s did not close", config.name, servable.opened.version)
    finally:
        done()
