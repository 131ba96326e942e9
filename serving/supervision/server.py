"""One server of several processes: an engine, workers, and what they have in common."""

import contextlib
import logging
from collections.abc import Callable
from functools import partial

from serving.errors import ServingError
from serving.logs import Logs
from serving.settings import Settings
from serving.supervision import ports, roles
from serving.supervision.supervisor import Supervisor
from serving.tracing import config
from serving.workers.door import Door
from serving.workers.recovery import Ledgers

logger = logging.getLogger("penstock.server")


def serve(settings: Settings, logs: Logs, announce: Callable[[str], None]) -> None:
    """Answer requests until a signal; `announce` is given lines for people once it does.

    Raises ServingError where the start fails.
    """
    _check(settings)
    with (
        ports.reserved(settings) as ours,
        contextlib.closing(Door.open()) as door,
        contextlib.closing(Ledgers()) as ledgers,
    ):
        workers = (f"worker {number}" for number in range(1, ours.workers + 1))
        Supervisor(
            {
                "engine": partial(roles.run_engine, ours, logs, door, ledgers),
                **dict.fromkeys(workers, partial(roles.run_worker, ours, logs, door)),
            },
            live=partial(logger.info, "live: %s; loading the models", ports.addresses(ours)),
            ready=announce,
        ).run()


def _check(settings: Settings) -> None:
    """ServingError for what several processes cannot do."""
    traces = config.read((*settings.deprecated_trace_config, *settings.trace_config))
    if traces.mode == config.TRITON and traces.file:
        raise ServingError(
            "--trace-config=triton,file: workers cannot write to one file; send traces with "
            "mode=opentelemetry, or leave out --workers"
        )
