"""What `--workers N` brings on N processors, and what it costs, beside one process.

    python -m bench.workers --save

Serves the same models by one process (`--workers 0`), by one worker and by as many workers as there
are processors, on 1, 2, 4, ... processors, and asks each in turns (A B C A B C ...): small requests
(one MNIST image, 3 KB) and large ones (256 CIFAR images, 3 MB in and out), over REST with binary
tensors in a closed loop. A server and the load that wrk makes for it keep to the same processors,
so that twice as many are twice as many for both, on any machine.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.progress import Progress

from bench import load_rest
from bench.cases import BINARY, Request, oip_request
from bench.lineup import PICTURE
from bench.machine import cpu_seconds_of_each, pinned
from bench.models import cifar, mnist
from bench.peers import ours
from bench.peers.base import ROOT, Running
from bench.record import RESULTS, provenance
from bench.report import Sheet

SMALL: Final = "small"
LARGE: Final = "large"
# For each processor.
CONNECTIONS: Final = {SMALL: 32, LARGE: 4}
_WARM_UP_SECONDS: Final = 1
_CAPTION: Final = (
    "Medians of rounds in turns, with their range. of one: requests/s over those of one worker on "
    "one processor, round by round. CPU: processor time for a request, of all the server's "
    "processes, and of the one that took most: the engine, where there are workers."
)


@dataclass(frozen=True, slots=True)
class Setup:
    """So many workers, on so many processors."""

    processors: int
    workers: int


BASE: Final = Setup(1, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement: answers per second, seconds of processor time each, and latencies.

    `most` is the processor time of the process that took most.
    """

    throughput: float
    cost: float
    most: float
    p50: float
    p99: float
    errors: int


@dataclass(frozen=True, slots=True)
class Result:
    """The windows of one kind of request to one setup, in the order of the rounds."""

    kind: str
    setup: Setup
    windows: Sequence[Window]

    def spread(self, name: str, scale: float = 1) -> str:
        """Median and range of one figure."""
        values = [scale * getattr(window, name) for window in self.windows]
        return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"

    def milliseconds(self, name: str) -> str:
        """The median of one latency."""
        return f"{1e3 * statistics.median(getattr(window, name) for window in self.windows):,.1f}"

    def over(self, other: "Result") -> str:
        """Throughput as a multiple of another's."""
        pairs = zip(self.windows, other.windows, strict=True)
        ratios = [mine.throughput / theirs.throughput for mine, theirs in pairs]
        return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


@dataclass(frozen=True, slots=True)
class _Served:
    setup: Setup
    cores: Sequence[int]
    running: Running

    def window(self, kind: str, request: Request, seconds: int) -> Window:
        before = cpu_seconds_of_each(self.running.pid)
        connections = CONNECTIONS[kind] * len(self.cores)
        sent = load_rest.send(self.running.http, request, connections, seconds, self.cores)
        after = cpu_seconds_of_each(self.running.pid)
        answers = max(sent.requests, 1)
        spent = [(after[pid] - before.get(pid, 0.0)) / answers for pid in after]
        throughput = answers / sent.seconds
        return Window(throughput, sum(spent), max(spent), sent.p50, sent.p99, sent.errors)


def setups(processors: int) -> list[Setup]:
    """What is measured on a machine of so many processors."""
    numbers = [2**power for power in range(processors.bit_length())]
    return [Setup(n, workers) for n in numbers for workers in sorted({0, 1, n})]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    there = len(os.sched_getaffinity(0))
    parser.add_argument("--processors", type=int, default=there)
    parser.add_argument("--kinds", nargs="+", choices=CONNECTIONS, default=[*CONNECTIONS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of a window")
    parser.add_argument("--model", default="mnist-cnn", help="a published MNIST classifier")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--save", action="store_true", help="keep a record in bench/results/")
    told = parser.parse_args(given)
    if not 1 <= told.processors <= there:
        parser.error(f"--processors {told.processors}: this process may use {there}")
    return told


def measure(told: argparse.Namespace, console: Console) -> list[Result]:
    """Start a server for each setup, and measure them in turns."""
    wanted = setups(told.processors)
    with ExitStack() as stack:
        repository = Path(stack.enter_context(TemporaryDirectory(prefix="bench-workers-")))
        subjects = {
            SMALL: mnist(told.repository / told.model / "1" / "model.onnx", PICTURE, repository),
            LARGE: cifar(repository),
        }
        servers = [_served(setup, repository, stack) for setup in wanted]
        progress = stack.enter_context(Progress(console=console))
        total = len(told.kinds) * len(servers) * (told.rounds + 1)
        task = progress.add_task("measuring", total=total)
        results = []
        for kind in told.kinds:
            request = oip_request(BINARY, subjects[kind])
            for server in servers:
                load_rest.check(server.running.http, request, subjects[kind].expected)
                server.window(kind, request, _WARM_UP_SECONDS)
                progress.advance(task)
            windows: dict[Setup, list[Window]] = {setup: [] for setup in wanted}
            for _ in range(told.rounds):
                for server in servers:
                    windows[server.setup].append(server.window(kind, request, told.seconds))
                    progress.advance(task)
            results += [Result(kind, setup, windows[setup]) for setup in wanted]
    return results


def _served(setup: Setup, repository: Path, stack: ExitStack) -> _Served:
    cores = sorted(os.sched_getaffinity(0))[-setup.processors :]
    with pinned(*cores):
        running = stack.enter_context(ours.serve(repository, f"--workers={setup.workers}"))
    return _Served(setup, cores, running)


def sheet(results: Sequence[Result]) -> Sheet:
    """A row for each kind and setup."""
    bases = {each.kind: each for each in results if each.setup == BASE}
    rows = [
        [
            each.kind if each.setup == results[0].setup else "",
            str(each.setup.processors),
            str(each.setup.workers),
            each.spread("throughput"),
            each.over(bases[each.kind]),
            each.spread("cost", 1e6),
            each.spread("most", 1e6),
            each.milliseconds("p50"),
            each.milliseconds("p99"),
            str(sum(window.errors for window in each.windows)),
        ]
        for each in results
    ]
    headings = (
        *("requests", "processors", "workers", "requests/s", "of one", "CPU us", "the most us"),
        *("p50 ms", "p99 ms", "errors"),
    )
    return Sheet("Workers", headings, rows, _CAPTION)


def save(results: Sequence[Result], told: argparse.Namespace) -> Path:
    """Write the record; gives its path."""
    options = {name: getattr(told, name) for name in ("rounds", "seconds", "model")}
    content = {
        **provenance(),
        "options": options | {"connections": CONNECTIONS},
        "results": [asdict(each) for each in results],
    }
    file = RESULTS / "workers.json"
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def main() -> None:
    """Measure, print, keep."""
    told = arguments()
    results = measure(told, Console(stderr=True))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    console.print(sheet(results).drawn())
    if told.save:
        console.print(f"wrote {save(results, told)}")


if __name__ == "__main__":
    main()
