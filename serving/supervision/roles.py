"""What the processes of one server do: some execute the models, the others parse and answer."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from serving import busy_poll, cores, engines, event_loop, threads
from serving.announcement import announcement
from serving.engine_settings import EngineKind
from serving.errors import Unavailable
from serving.gateway.extensions import Extensions
from serving.gateway.server import serve
from serving.logs import Logs
from serving.settings import ModelControlMode, Settings
from serving.supervision import ports
from serving.supervision.pulse import Pulse
from serving.workers.door import Door
from serving.workers.joined import JoinedEngine, Peer
from serving.workers.recovery import LastingCounts, LastingModels, Ledgers, restore_models
from serving.workers.remote import RemoteEngine
from serving.workers.reunion import keep_together
from serving.workers.service import Service
from serving.workers.sharing import Sharing
from serving.workers.spread import spread

# In seconds: what workers may take to stop beyond the times that the settings grant.
_LEEWAY: Final = 5


class Seat(NamedTuple):
    """One engine, whichever process that is at the moment: how it is reached, what it leaves."""

    name: str
    door: Door
    ledgers: Ledgers
    gpus: tuple[int, ...]


def run_engine(
    settings: Settings,
    logs: Logs,
    seats: Sequence[Seat],
    index: int,
    report: Callable[[str, str], None],
    pulse: Pulse,
) -> None:
    """Execute the models for the workers until a signal.

    The first engine answers metrics as well, and for all engines what must be one.
    """
    _leave_the_telling_to_the_supervisor()
    if len(seats) > 1:
        _name_in_logs(seats[index].name)
        cores.keep_to_share(index, len(seats))
        threads.share_quota(len(seats))

    async def main() -> None:
        process = _EngineProcess(settings, logs, seats, index)

        async def load() -> None:
            report("live", "")
            await process.start()
            if not index:
                models = await engines.serving(process.service.engine)
                report("ready", announcement(models, settings, ports.addresses(settings)))

        engine, own = process.service.engine, process.settings
        await serve(engine, own, process.extensions, load, lambda _: None)

    event_loop.run(pulse.during(main()))


class _EngineProcess:
    """An engine with all that makes it go on where the process before it ended."""

    def __init__(self, settings: Settings, logs: Logs, seats: Sequence[Seat], index: int) -> None:
        self._ledgers = ledgers = seats[index].ledgers
        self._models = ledgers.models.read()
        self._is_new = ledgers.is_empty
        self.settings = own = _for_the_engine(settings, seats, index)
        self._engine = engines.open_engine(own)
        self._lasting = LastingCounts(self._engine, ledgers.counts)
        self.extensions = Extensions.of(own, logs)
        sharing = Sharing(self.extensions.apply, ledgers.changes)
        outer = self._lasting.engine
        self._joined: JoinedEngine | None = None
        if len(seats) > 1 and not index:
            peers = [
                Peer(RemoteEngine(seat.door.outside), seat.ledgers.counts) for seat in seats[1:]
            ]
            for peer in peers:
                sharing.add(peer.engine.apply)
            self._joined = JoinedEngine(outer, peers)
            outer = self._joined.engine
        self._lasting_models: LastingModels | None = None
        if own.engine is EngineKind.EMBEDDED and not index:
            self._lasting_models = LastingModels(outer, ledgers.models)
            outer = self._lasting_models.engine
        outer = busy_poll.engine(outer, settings.busy_poll_micros)
        self.service = Service(outer, seats[index].door.inside, sharing, settings.exit_timeout_secs)
        # Whose place others can take meanwhile is not asked before it can answer.
        self._opens_late = len(seats) > 1 and not self._is_new
        self._reunion: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the models, and let workers in."""
        if not self._opens_late:
            self.service.open()
        if self._joined:
            await self._joined.start()
        await self._engine.start()
        await restore_models(self._engine, self._ledgers.models)
        await self._lasting.restore()
        if self._opens_late:
            if self._ledgers.models.read() != self._models:
                # A load that had begun before the start, and ended after it.
                raise Unavailable("the models have changed meanwhile")
            self.service.open()
        self.service.start()
        if self._joined and self._is_new:
            await self._joined.started()
        if self._lasting_models:
            await self._lasting_models.started()
        # With polling all follow the repositories by themselves.
        is_explicit = self.settings.model_control_mode is ModelControlMode.EXPLICIT
        if self._joined and self._lasting_models and is_explicit:
            keeping = keep_together(self._joined, self._lasting_models, self._is_new)
            self._reunion = asyncio.create_task(keeping)


def _for_the_engine(settings: Settings, seats: Sequence[Seat], index: int) -> Settings:
    ledgers = seats[index].ledgers
    models = ledgers.models_at_start()
    if len(seats) > 1:
        settings = replace(
            settings,
            device=replace(settings.device, own=seats[index].gpus),
            allow_metrics=settings.allow_metrics and not index,
            response_cache_byte_size=settings.cache_size // len(seats),
            cache_config=(),
        )
    return replace(
        settings,
        allow_http=False,
        allow_grpc=False,
        exit_grace_secs=0.0,
        # As long as its workers may take, one step after the other.
        exit_timeout_secs=int(settings.exit_grace_secs) + 2 * settings.exit_timeout_secs + _LEEWAY,
        # Once there was a good start, what fails at the next must not keep the rest away.
        exit_on_error=settings.exit_on_error and ledgers.is_empty,
        load_model=settings.load_model if models is None else models,
    )


def run_worker(
    settings: Settings,
    logs: Logs,
    seats: Sequence[Seat],
    report: Callable[[str, str], None],
    pulse: Pulse,
) -> None:
    """Parse and answer until a signal."""
    _leave_the_telling_to_the_supervisor()
    own = replace(settings, allow_metrics=False)

    async def main() -> None:
        remotes = [RemoteEngine(seat.door.outside) for seat in seats]
        engine = spread(remotes)
        extensions = Extensions.of(own, logs, remotes[0].share)
        remotes[0].follow(extensions.apply)
        await asyncio.gather(*(remote.start() for remote in remotes))

        async def load() -> None:
            report("live", "")

        await serve(engine, own, extensions, load, lambda _: None)

    event_loop.run(pulse.during(main()))


def _name_in_logs(name: str) -> None:
    """Have each line say which of several engines it is of."""
    make = logging.getLogRecordFactory()

    def named(*args: Any, **options: Any) -> logging.LogRecord:
        record = make(*args, **options)
        record.msg = f"{name}: {record.msg}"
        return record

    logging.setLogRecordFactory(named)


def _leave_the_telling_to_the_supervisor() -> None:
    """That the server is live, stops and has stopped is said once, of all processes together."""
    logging.getLogger("penstock.server").setLevel(logging.WARNING)
