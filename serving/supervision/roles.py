"""What the processes of one server do: one executes the models, the others parse and answer."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from serving import engines, event_loop
from serving.announcement import announcement
from serving.engine_settings import EngineKind
from serving.gateway.extensions import Extensions
from serving.gateway.server import serve
from serving.logs import Logs
from serving.settings import Settings
from serving.supervision import ports
from serving.workers.door import Door
from serving.workers.recovery import LastingEngine, Ledgers
from serving.workers.remote import RemoteEngine
from serving.workers.service import Service
from serving.workers.sharing import Sharing

# In seconds: what workers may take to stop beyond the times that the settings grant.
_LEEWAY: Final = 5


def run_engine(
    settings: Settings,
    logs: Logs,
    door: Door,
    ledgers: Ledgers,
    report: Callable[[str, str], None],
) -> None:
    """Execute the models for the workers, and answer metrics, until a signal."""
    _leave_the_telling_to_the_supervisor()
    own = _for_the_engine(settings, ledgers)

    async def main() -> None:
        engine = engines.open_engine(own)
        keeps_models = settings.engine is EngineKind.EMBEDDED
        lasting = LastingEngine(engine, ledgers, keeps_models)
        extensions = Extensions.of(own, logs)
        sharing = Sharing(extensions.apply, ledgers.changes)
        service = Service(lasting.engine, door.inside, sharing, settings.exit_timeout_secs)

        async def load() -> None:
            report("live", "")
            service.open()
            models = await engines.start(engine)
            await lasting.restore()
            service.changed()
            report("ready", announcement(models, settings, ports.addresses(settings)))

        await serve(service.engine, own, extensions, load, lambda _: None)

    event_loop.run(main())


def _for_the_engine(settings: Settings, ledgers: Ledgers) -> Settings:
    models = ledgers.models_at_start()
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
    settings: Settings, logs: Logs, door: Door, report: Callable[[str, str], None]
) -> None:
    """Parse and answer until a signal."""
    _leave_the_telling_to_the_supervisor()
    own = replace(settings, allow_metrics=False)

    async def main() -> None:
        engine = RemoteEngine(door.outside)
        extensions = Extensions.of(own, logs, engine.share)
        engine.follow(extensions.apply)
        await engine.start()

        async def load() -> None:
            report("live", "")

        await serve(engine, own, extensions, load, lambda _: None)

    event_loop.run(main())


def _leave_the_telling_to_the_supervisor() -> None:
    """That the server is live, stops and has stopped is said once, of all processes together."""
    logging.getLogger("penstock.server").setLevel(logging.WARNING)
