"""One server of several processes: an engine, workers, and what they have in common."""

import contextlib
import logging
from collections.abc import Callable
from functools import partial

from serving.logs import Logs
from serving.settings import Settings
from serving.supervision import ports, roles
from serving.supervision.supervisor import Supervisor
from serving.workers.door import Door
from serving.workers.recovery import Ledgers

logger = logging.getLogger("penstock.server")


def serve(settings: Settings, logs: Logs, announce: Callable[[str], None]) -> None:
    """Answer requests until a signal; `announce` is given lines for people once it does.

    Raises ServingError where the start fails.
    """
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
