"""Who can be measured: servers under load, and the raw runtime as their ceiling."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPException
from typing import Any, Final, Protocol

from bench import load_grpc, load_rest, shared
from bench.cases import LARGE, LARGE_SHARED, OVER_GRPC, SMALL, Case, Request
from bench.load import Sent, Wrong
from bench.machine import Cores, Unavailable, busy_seconds, cpu_seconds
from bench.models import Subject
from bench.peers.base import QUIET, ROOT, Peer, Running, last_words

# Where a CPU's best batch lies for models of this size; bigger ones leave the caches.
BATCHES: Final = (1, 4, 8, 16, 32, 64)
RAW: Final = "raw"
# A process that ends lets its connections go a little before its parent can see that it has.
ENDING_SECONDS: Final = 1.0


class Ended(Unavailable):
    """The process of a server has ended while it was asked: how, and the end of its log."""

    def __init__(self, name: str, how: str, words: str) -> None:
        super().__init__(f"{name} has ended: {how}; the end of its log:\n{words}")
        self.how = how
        self.words = words


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured in one window; times in seconds."""

    seconds: float
    requests: int
    p50: float
    p99: float
    errors: int
    server: float  # processor time of the server's process tree
    load: float  # processor time of the load generator
    others: float  # share that others took of the server's core, or of the load's if that lost more

    @property
    def throughput(self) -> float:
        """Right answers a second."""
        return self.requests / self.seconds

    @property
    def cost(self) -> float:
        """Seconds of the server's processor time for one request."""
        return self.server / max(self.requests, 1)


class Contestant(Protocol):
    """Something that answers requests of some kinds."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    @property
    def kinds(self) -> Collection[str]:
        """What it can be asked."""

    def check(self, case: Case) -> None:
        """load.Wrong unless it answers the case as the raw runtime does; Ended if it ends."""

    def window(self, case: Case, seconds: int) -> Window:
        """Measure it under that load; Ended if it ends."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server under the load generator. `subjects` are what is asked, by kind."""

    peer: Peer
    running: Running
    subjects: Mapping[str, Subject]
    cores: Cores
    answers: dict[str, int] = field(default_factory=dict)  # bytes of a right one, by kind

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def kinds(self) -> Collection[str]:
        return self.peer.kinds

    def check(self, case: Case) -> None:
        expected = self.subjects[case.kind].expected
        with self._named(), self._request(case) as request:
            if case.kind in OVER_GRPC:
                self.answers[case.kind] = load_grpc.check(self.running.grpc, request, expected)
            else:
                load_rest.check(self.running.http, request, expected)

    def window(self, case: Case, seconds: int) -> Window:
        def send(request: Request) -> Sent:
            if case.kind in OVER_GRPC:
                return load_grpc.send(
                    *(self.running.grpc, request, case.connections, seconds, self.cores.load),
                    self.answers[case.kind],
                )
            return load_rest.send(
                self.running.http, request, case.connections, seconds, [self.cores.load]
            )

        with self._named(), self._request(case) as request:
            window = watched(partial(send, request), self.running.pid, self.cores)
        self._alive(ENDING_SECONDS if window.errors else 0)
        return window

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Unavailable or Wrong with the server's name and last words where it does not answer."""
        try:
            yield
        except (OSError, HTTPException, Unavailable, Wrong) as reason:
            self._alive(ENDING_SECONDS)
            said = f"{self.name}: {reason}; the end of its log:\n{last_words(self.running.log)}"
            raise (Wrong if isinstance(reason, Wrong) else Unavailable)(said) from reason

    def _alive(self, seconds: float) -> None:
        """Ended if it has ended, or does within that time."""
        how = self.running.ending(seconds)
        if how:
            raise Ended(self.name, how, last_words(self.running.log))

    @contextmanager
    def _request(self, case: Case) -> Iterator[Request]:
        subject = self.subjects[case.kind]
        if case.kind == LARGE_SHARED:
            with shared.request(self.running.http, subject) as request:
                yield request
        else:
            yield self.peer.request(case.kind, subject)


@dataclass(frozen=True, slots=True)
class Over:
    """Another contestant, asked over so many connections whatever the case says: so it can stand
    beside itself, its windows between those of the case."""

    inner: Contestant
    connections: int

    @property
    def name(self) -> str:
        return f"{self.inner.name}, {self.connections} connections"

    @property
    def kinds(self) -> Collection[str]:
        return self.inner.kinds

    def check(self, case: Case) -> None:
        self.inner.check(replace(case, connections=self.connections))

    def window(self, case: Case, seconds: int) -> Window:
        return self.inner.window(replace(case, connections=self.connections), seconds)


@dataclass(slots=True)
class Raw:
    """The runtime alone. What counts as a request is one image or, of large tensors, one batch.

    On one connection there is never more than one image: then single ones are run, else batches
    as large as is best. Large tensors are copied in and out, which no server can do without.
    """

    process: "subprocess.Popen[str]"
    subjects: Mapping[str, Subject]
    core: int
    best: int = 1

    name: str = RAW
    kinds: Collection[str] = (*SMALL, *LARGE)

    def choose(self, seconds: float = 0.1) -> None:
        """Find the batch size at which an image takes the least processor time."""
        costs = {batch: self._window(SMALL[0], batch, seconds).cost for batch in BATCHES}
        self.best = min(costs, key=costs.__getitem__)

    def check(self, case: Case) -> None:
        """What it says is right by definition."""

    def window(self, case: Case, seconds: int) -> Window:
        batch = len(self.subjects[case.kind].rows)
        if case.kind in SMALL and case.connections > 1:
            batch = self.best
        return self._window(case.kind, batch, seconds)

    def _window(self, kind: str, batch: int, seconds: float) -> Window:
        alone = Cores(server=self.core, load=self.core)
        return watched(lambda: self._run(kind, batch, seconds), self.process.pid, alone)

    def _run(self, kind: str, batch: int, seconds: float) -> Sent:
        subject = self.subjects[kind]
        asked = {
            "file": str(subject.file),
            "batch": batch,
            "seconds": seconds,
            "copies": kind in LARGE,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(asked)}\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        images = 1 if kind in LARGE else batch
        return Sent(told["seconds"], told["runs"] * images, told["p50"], told["p99"], 0, 0.0)


@contextmanager
def raw(subjects: Mapping[str, Subject], core: int) -> Iterator[Raw]:
    """The raw runtime, on the core that this thread is pinned to, its best batch size chosen."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.peers.raw"],
        cwd=ROOT,
        env=os.environ | QUIET,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        contestant = Raw(process, subjects, core)
        contestant.choose()
        yield contestant


def watched(send: Callable[[], Sent], pid: int, cores: Cores) -> Window:
    """What was sent, with what the server's processes and the cores did meanwhile."""
    begun, own, used = time.perf_counter(), time.process_time(), cpu_seconds(pid)
    busy = {core: busy_seconds(core) for core in {cores.server, cores.load}}
    sent = send()
    taken = {core: busy_seconds(core) - before for core, before in busy.items()}
    used = cpu_seconds(pid) - used
    taken[cores.server] -= used
    if cores.load != cores.server:
        # What the generator wrote is read in this process, on whichever core.
        taken[cores.load] -= sent.processor + time.process_time() - own
    # Longer than the window: the load generator starts and connects first.
    elapsed = time.perf_counter() - begun
    return Window(
        seconds=sent.seconds,
        requests=sent.requests,
        p50=sent.p50,
        p99=sent.p99,
        errors=sent.errors,
        server=used,
        load=sent.processor,
        others=max(0.0, *taken.values()) / elapsed,
    )
