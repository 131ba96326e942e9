"""One server after the other under every load, from half idle to several times too much."""

import http.client
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from bench import load_rest
from bench.cases import Request
from bench.generator import Generator, closed, generator, poisson
from bench.machine import Cores, busy_seconds, cpu_seconds, pinned
from bench.models import Subject
from bench.overload.contestants import Contestant
from bench.overload.curves import Curve, Point, point
from bench.peers.base import Running
from serving.bench.client.fleet import Standing

_CONNECTIONS: Final = 16  # while the saturation is measured
_PATIENCE: Final = 30.0  # seconds for what was given up to be worked off
_SETTLED: Final = 3  # answers in time, one after the other


@dataclass(frozen=True, slots=True)
class Plan:
    """What every server is put through; times in seconds, loads in multiples of its saturation."""

    objective: float
    loads: Sequence[float]
    seconds: float
    warm_up: float
    timeout: float


class Progress(Protocol):
    """Who wants to see how far it is."""

    def begin(self, title: str, seconds: float) -> None:
        """Something begins that takes about so long."""

    def tell(self, standing: Standing, seconds: float) -> None:
        """So far has it come, so many seconds after its measurement began."""

    def end(self, point: Point) -> None:
        """A point is there."""


def curve(
    contestant: Contestant,
    repository: Path,
    subject: Subject,
    plan: Plan,
    cores: Cores,
    progress: Progress,
) -> Curve:
    """Start one server, measure it, and stop it; machine.Unavailable if it cannot run."""
    progress.begin(f"{contestant.name}: starting", 0)
    request = contestant.request(subject)
    serving = contestant.serve(repository, 1000 * plan.objective)
    with pinned(cores.server), serving as running, pinned(cores.load):
        load_rest.check(running.http, request, subject.expected)
        with generator(running.http, request) as asking:
            progress.begin(f"{contestant.name}: saturation", plan.warm_up + plan.seconds)
            saturation = _saturation(asking, plan)
            server = _Server(contestant.name, running, request, cores.server, asking, progress)
            points = [server.point(load, saturation, plan) for load in plan.loads]
    return Curve(contestant.name, contestant.title, saturation, points)


def _saturation(asking: Generator, plan: Plan) -> float:
    """Answers a second while there is always somebody to answer."""
    tally = asking.run(closed(_CONNECTIONS, plan.seconds, plan.warm_up, plan.timeout))
    return tally.answered_in_time / tally.elapsed


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    running: Running
    request: Request
    core: int
    asking: Generator
    progress: Progress

    def point(self, load: float, saturation: float, plan: Plan) -> Point:
        """Measure it at `load` times its saturation, once it has nothing else left to do."""
        _settle(self.running.http, self.request, plan.objective)
        rate = load * saturation
        self.progress.begin(f"{self.name}: {load:g}x = {rate:,.0f}/s", plan.warm_up + plan.seconds)
        step = poisson(rate, plan.seconds, plan.warm_up, plan.timeout)
        used = _Used(self.running.pid, self.core)
        tally = self.asking.run(step, used.look, used.look, self.progress.tell)
        measured = replace(
            point(load, rate, tally, plan.objective), cpu=used.server, others=used.others
        )
        self.progress.end(measured)
        return measured


class _Used:
    """Called as a measurement begins and as it ends: shares of a processor used meanwhile."""

    def __init__(self, pid: int, core: int) -> None:
        self._pid = pid
        self._core = core
        self._looks: list[tuple[float, float, float]] = []

    def look(self) -> None:
        self._looks.append((time.monotonic(), cpu_seconds(self._pid), busy_seconds(self._core)))

    @property
    def server(self) -> float:
        """What the server used."""
        seconds, server, _ = self._between()
        return server / seconds

    @property
    def others(self) -> float:
        """What anybody else used."""
        seconds, server, busy = self._between()
        return max(0.0, busy - server) / seconds

    def _between(self) -> tuple[float, float, float]:
        begun, ended = self._looks
        seconds, server, busy = (after - before for before, after in zip(begun, ended, strict=True))
        return seconds, server, busy


def _settle(
    address: str, request: Request, objective: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait until the server answers in time again: it may work for clients that gave up."""
    until = clock() + _PATIENCE
    settled = 0
    while settled < _SETTLED and clock() < until:
        began = clock()
        is_answered = _asked(address, request) == http.client.OK
        settled = settled + 1 if is_answered and clock() - began < objective else 0


def _asked(address: str, request: Request) -> int:
    """The status of an answer; 0 without one."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_PATIENCE)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return answer.status
