"""Who can be measured: servers under load, and the raw runtime as their ceiling."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from bench import load
from bench.cases import Case
from bench.machine import Cores, busy_seconds, cpu_seconds
from bench.models import Array
from bench.peers.base import QUIET, ROOT, Peer, Running

# Where a CPU's best batch lies for models of this size; bigger ones leave the caches.
BATCHES: Final = (1, 4, 8, 16, 32, 64)
RAW: Final = "raw"


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
    others: float  # processor time that others took on the server's core

    @property
    def throughput(self) -> float:
        """Right answers a second."""
        return self.requests / self.seconds

    @property
    def cost(self) -> float:
        """Seconds of the server's processor time for one request."""
        return self.server / max(self.requests, 1)


class Contestant(Protocol):
    """Something that answers a case."""

    @property
    def name(self) -> str:
        """As the table calls it."""

    def check(self, case: Case) -> None:
        """load.Wrong unless it answers the case as the raw runtime does."""

    def window(self, case: Case, seconds: int) -> Window:
        """Measure it under that load."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server under the load generator."""

    peer: Peer
    running: Running
    model: str
    images: Array
    expected: Array
    cores: Cores

    @property
    def name(self) -> str:
        return self.peer.name

    def check(self, case: Case) -> None:
        request = self.peer.request(case.kind, self.model, self.images)
        load.check(self.running.http, request, self.expected)

    def window(self, case: Case, seconds: int) -> Window:
        request = self.peer.request(case.kind, self.model, self.images)
        used, busy = cpu_seconds(self.running.pid), busy_seconds(self.cores.server)
        sent = load.send(self.running.http, request, case.connections, seconds, self.cores.load)
        used = cpu_seconds(self.running.pid) - used
        busy = busy_seconds(self.cores.server) - busy
        return Window(
            seconds=sent.seconds,
            requests=sent.requests,
            p50=sent.p50,
            p99=sent.p99,
            errors=sent.errors,
            server=used,
            load=sent.processor,
            others=max(0.0, busy - used),
        )


@dataclass(slots=True)
class Raw:
    """The runtime alone; a request is one image, in batches as large as is best.

    With one connection there is never more than one image: then it is asked for single ones.
    """

    process: "subprocess.Popen[str]"
    core: int
    best: int = 1
    name: str = RAW

    def choose(self, seconds: float = 0.25) -> None:
        """Find the best batch size: most images a second."""
        speeds = {}
        for batch in BATCHES:
            told = self._run(batch, seconds)
            speeds[batch] = batch / told["p50"]
        self.best = max(speeds, key=speeds.__getitem__)

    def check(self, case: Case) -> None:
        """What it says is right by definition."""

    def window(self, case: Case, seconds: int) -> Window:
        batch = self.best if case.connections > 1 else 1
        used, busy = cpu_seconds(self.process.pid), busy_seconds(self.core)
        told = self._run(batch, seconds)
        used = cpu_seconds(self.process.pid) - used
        return Window(
            seconds=told["seconds"],
            requests=int(told["batches"]) * batch,
            p50=told["p50"],
            p99=told["p99"],
            errors=0,
            server=used,
            load=0.0,
            others=max(0.0, busy_seconds(self.core) - busy - used),
        )

    def _run(self, batch: int, seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{batch} {seconds}\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told


@contextmanager
def raw(model: Path, core: int) -> Iterator[Raw]:
    """The raw runtime, on the core that this thread is pinned to, its best batch size chosen."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.peers.raw", str(model)],
        cwd=ROOT,
        env=os.environ | QUIET,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        contestant = Raw(process, core)
        contestant.choose()
        yield contestant
