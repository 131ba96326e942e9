"""Whether a server that is asked for minutes keeps answering, and keeps its memory.

    python -m bench.soak --save
    python -m bench.soak --minutes 1 --workers 2

Poisson arrivals at 80 % of what the server answers when it is never idle (32 connections in a
closed loop, just before), over REST with binary tensors, one image a request. Every request without
a right answer is an error. Resident memory, of all processes of the server, is looked at once a
second; its slope is that of a straight line through what was seen after the first fifth of the
time, with its standard error. There are 128 connections at most.
One process has a processor for itself; workers share all processors with the load generator.

The exit code is 1 after an error, or where memory grows by more than 1 % in ten minutes beyond two
standard errors. `--save` leaves bench/results/soak.json, or soak-workers.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bench import load_rest
from bench.cases import BINARY, oip_request
from bench.generator import Generator, closed, generator, poisson
from bench.lineup import PICTURE
from bench.machine import cores, cpu_seconds, pinned, resident_bytes
from bench.models import Subject, mnist
from bench.peers import ours
from bench.peers.base import ROOT, Running
from bench.record import RESULTS, provenance
from serving.bench.client.fleet import Standing
from serving.bench.client.tally import Tally

SETTLING: Final = 0.2  # of the time, in which caches and pools fill
TOLERATED: Final = 0.01  # of the memory, in ten minutes
_KIB: Final = 1024
_TIMEOUT: Final = 10.0  # seconds
_CONNECTIONS: Final = 32
_IN_FLIGHT: Final = 128  # at most; every connection takes some memory for good


@dataclass(frozen=True, slots=True)
class Slope:
    """KiB a minute of a straight line through samples, and its standard error."""

    kib_per_minute: float
    deviation: float
    samples: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a run has found: rates per second, latencies in seconds, memory in KiB.

    `samples` are seconds since the measurement began, and KiB; `failures` are counted by status
    and message; `cpu` is the server's, in processors.
    """

    saturation: float
    rate: float
    seconds: float
    answered: int
    failures: Mapping[str, int]
    p50: float
    p99: float
    cpu: float
    samples: Sequence[tuple[float, float]]

    @property
    def slope(self) -> Slope:
        """Of the memory, after it has settled."""
        return slope([each for each in self.samples if each[0] >= SETTLING * self.seconds])

    @property
    def is_flat(self) -> bool:
        """Whether memory does not grow as far as can be told."""
        line = self.slope
        grows = 10 * (line.kib_per_minute - 2 * line.deviation)
        return grows <= TOLERATED * self.samples[-1][1]

    @property
    def passed(self) -> bool:
        """No error, and no growth."""
        return not self.failures and self.is_flat


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--load", type=float, default=0.8, help="as a share of the saturation")
    parser.add_argument("--workers", type=int, default=0, help="processes that parse and answer")
    parser.add_argument("--model", default="mnist-cnn", help="a published MNIST classifier")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--save", action="store_true", help="keep a record in bench/results/")
    return parser.parse_args(given)


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """By least squares, of samples (seconds, KiB); nothing can be said of less than three."""
    if len(samples) < 3:
        return Slope(0.0, float("inf"), len(samples))
    minutes, memory = np.array(samples).T / np.array([[60.0], [1.0]])
    away = minutes - minutes.mean()
    spread = float(away @ away)
    steepness = float(away @ memory) / spread
    residuals = memory - memory.mean() - steepness * away
    error = float(np.sqrt(residuals @ residuals / (len(samples) - 2) / spread))
    return Slope(steepness, error, len(samples))


class _Watch:
    """Looks at the memory once a second, whenever it is told how far the load is."""

    def __init__(self, pid: int, progress: Progress, minutes: float) -> None:
        self.samples: list[tuple[float, float]] = []
        self.cpu: list[tuple[float, float]] = []
        self._pid = pid
        self._progress = progress
        self._task = progress.add_task("soaking", total=60 * minutes)

    def tell(self, standing: Standing, seconds: float) -> None:
        if seconds < 0 or (self.samples and seconds < self.samples[-1][0] + 1):
            return
        memory = resident_bytes(self._pid) / _KIB
        self.samples.append((seconds, memory))
        shown = f"{standing.answered} right, {standing.failed} errors, {memory / _KIB:.1f} MiB"
        self._progress.update(self._task, completed=seconds, description=shown)

    def look(self) -> None:
        self.cpu.append((time.monotonic(), cpu_seconds(self._pid)))


def run(told: argparse.Namespace, console: Console) -> Soaked:
    """Serve, find the saturation, and soak."""
    places = cores()
    with ExitStack() as stack:
        repository = Path(stack.enter_context(TemporaryDirectory(prefix="bench-soak-"))) / "models"
        subject = mnist(told.repository / told.model / "1" / "model.onnx", PICTURE, repository)
        flags = [f"--workers={told.workers}"] if told.workers else []
        if not told.workers:
            stack.enter_context(pinned(places.server))
        running = stack.enter_context(ours.serve(repository, *flags))
        if not told.workers:
            stack.enter_context(pinned(places.load))
        progress = stack.enter_context(Progress(console=console))
        asking = stack.enter_context(_asking(running, subject))
        return _soak(asking, running, told, progress)


def _asking(running: Running, subject: Subject) -> Any:
    request = oip_request(BINARY, subject)
    load_rest.check(running.http, request, subject.expected)
    return generator(running.http, request)


def _soak(
    asking: Generator, running: Running, told: argparse.Namespace, progress: Progress
) -> Soaked:
    tally = asking.run(closed(_CONNECTIONS, 5, 2, _TIMEOUT))
    saturation = tally.answered_in_time / tally.elapsed
    watch = _Watch(running.pid, progress, told.minutes)
    rate = told.load * saturation
    step = poisson(rate, 60 * told.minutes, 2, _TIMEOUT, _IN_FLIGHT)
    tally = asking.run(step, watch.look, watch.look, watch.tell)
    return _soaked(saturation, rate, tally, watch)


def _soaked(saturation: float, rate: float, tally: Tally, watch: _Watch) -> Soaked:
    (begun, before), (ended, after) = watch.cpu
    return Soaked(
        saturation=saturation,
        rate=rate,
        seconds=tally.elapsed,
        answered=tally.answered,
        failures={f"{each.status}: {each.message}": n for each, n in tally.failures.items()},
        p50=tally.latency.percentile(50) / 1e9,
        p99=tally.latency.percentile(99) / 1e9,
        cpu=(after - before) / (ended - begun),
        samples=watch.samples,
    )


def report(soaked: Soaked) -> str:
    """What was found, in some sentences."""
    line, memory = soaked.slope, soaked.samples[-1][1] / _KIB
    errors = sum(soaked.failures.values())
    return (
        f"{soaked.answered:,} right answers in {soaked.seconds:.0f} s at {soaked.rate:,.0f}/s, "
        f"{soaked.rate / soaked.saturation:.0%} of the saturation; {errors} errors; p50 "
        f"{1000 * soaked.p50:.2f} ms, p99 {1000 * soaked.p99:.2f} ms; {soaked.cpu:.0%} of a "
        f"processor\nmemory {memory:.1f} MiB, slope {line.kib_per_minute:+.1f} KiB/min with a "
        f"standard error of {line.deviation:.1f} ({line.samples} samples): "
        f"{'flat' if soaked.is_flat else 'it GROWS'}"
    )


def save(soaked: Soaked, told: argparse.Namespace) -> Path:
    """Write the record; gives its path."""
    file = RESULTS / ("soak-workers.json" if told.workers else "soak.json")
    options = {name: getattr(told, name) for name in ("minutes", "load", "workers", "model")}
    document = {
        **provenance(),
        "options": options,
        "passed": soaked.passed,
        "slope": asdict(soaked.slope),
        **asdict(soaked),
    }
    file.write_text(json.dumps(document) + "\n")
    return file


def main() -> None:
    """Soak, print, keep, and judge."""
    told = arguments()
    soaked = run(told, Console(stderr=True))
    console = Console(highlight=False)
    console.print(report(soaked), soft_wrap=True)
    for failure, count in soaked.failures.items():
        console.print(f"{count} x {failure}", markup=False, soft_wrap=True)
    if told.save:
        console.print(f"wrote {save(soaked, told)}", soft_wrap=True)
    sys.exit(not soaked.passed)


if __name__ == "__main__":
    main()
