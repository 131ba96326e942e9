"""Poll mode: what changes in the repositories is served without being asked for."""

import asyncio
import logging

from serving.engine.control import ModelControl
from serving.engine.registry import Registry
from serving.engine.repository import Repository
from serving.engine.rollout import Rollout
from serving.engine.snapshot import Snapshot, take
from serving.errors import Elsewhere, ServingError

logger = logging.getLogger("penstock.load")


class Poller:
    """Loads what is new or has changed, unloads what has gone.

    What cannot be loaded is tried again when it changes, such as a folder that is still being
    written; what serves goes on meanwhile.
    """

    def __init__(
        self, repository: Repository, registry: Registry, control: ModelControl, rollout: Rollout
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._control = control
        self._rollout = rollout
        self._seen: dict[str, Snapshot | str] = {}
        # Why the repositories could not be polled the last time.
        self._fault = ""

    async def run(self, seconds: float) -> None:
        """Poll every `seconds` until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.poll()
            except Exception:
                logger.exception("a poll of the repositories failed; the next one comes")

    async def poll(self) -> None:
        """Look once, and change what has to be."""
        try:
            names = await self._rollout.in_thread(self._repository.names)
        except ServingError as error:
            # Rather than to unload everything because a disk or a network is away.
            if not self._fault:
                logger.error("the repositories cannot be polled: %s", error)
            self._fault = error.message
            return
        if self._fault:
            logger.info("the repositories can be polled again")
            self._fault = ""
        await asyncio.gather(*map(self._follow, names))
        present = frozenset(names)
        for record in self._registry:
            if record.wanted and record.name not in present:
                logger.info("%s has gone from the repositories", record.name)
                self._seen.pop(record.name, None)
                await self._control.unload(record.name)

    async def _follow(self, name: str) -> None:
        found = await self._rollout.in_thread(self._look, name)
        if self._seen.get(name) == found:
            return
        self._seen[name] = found
        was_required = self._registry.requires(name)
        try:
            await self._control.load(name)
        except Elsewhere:
            await self._control.unload(name)
        except ServingError as error:
            logger.error("%s", error)
            # What appears and is not whole yet keeps nobody from asking the others.
            self._registry.require(name, was_required)

    def _look(self, name: str) -> Snapshot | str:
        """What lies in the model's folder, or why that cannot be told."""
        try:
            return take(self._repository.find(name))
        except ServingError as error:
            return error.message
