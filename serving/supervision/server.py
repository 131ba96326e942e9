"""One server of several processes: an engine, workers, and what they have in common."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial

from serving import engines
from serving.errors import ServingError
from serving.logs import Logs
from serving.settings import Settings
from serving.supervision import ports, roles
from serving.supervision.roles import Seat
from serving.supervision.supervisor import Supervisor
from serving.tracing import config
from serving.workers.door import Door
from serving.workers.recovery import Ledgers

logger = logging.getLogger("penstock.server")


def serve(settings: Settings, logs: Logs, announce: Callable[[str], None]) -> None:
    """Answer requests until a signal; `announce` is given lines for people once it does.

    Raises ServingError where the start fails.
    """
    if fault := hindrance(settings):
        raise ServingError(fault)
    with ExitStack() as stack:
        ours = stack.enter_context(ports.reserved(settings))
        seats = _seats(stack, engines.processes(settings))
        workers = (f"worker {number}" for number in range(1, ours.workers + 1))
        Supervisor(
            {
                **{
                    seat.name: partial(roles.run_engine, ours, logs, seats, index)
                    for index, seat in enumerate(seats)
                },
                **dict.fromkeys(workers, partial(roles.run_worker, ours, logs, seats)),
            },
            live=partial(logger.info, "live: %s; loading the models", ports.addresses(ours)),
            ready=announce,
            patience=ours.hang_timeout_secs,
        ).run()


def _seats(stack: ExitStack, processes: Sequence[Sequence[int]]) -> list[Seat]:
    """One for each engine, which lasts as long as the stack."""
    seats: list[Seat] = []
    for number, gpus in enumerate(processes, 1):
        name = f"engine {number}" if len(processes) > 1 else "engine"
        door = stack.enter_context(closing(Door.open()))
        ledgers = Ledgers(seats[0].ledgers if seats else None)
        seats.append(Seat(name, door, stack.enter_context(closing(ledgers)), tuple(gpus)))
        if gpus and len(processes) > 1:
            logger.info("the %s has GPU %s", name, ", ".join(map(str, gpus)))
    return seats


def hindrance(settings: Settings) -> str:
    """What is asked for that several processes cannot do; empty: nothing."""
    traces = config.read((*settings.deprecated_trace_config, *settings.trace_config))
    if traces.mode == config.TRITON and traces.file:
        return (
            "--trace-config=triton,file: workers cannot write to one file; send traces with "
            "mode=opentelemetry, or give --workers=0"
        )
    return ""
