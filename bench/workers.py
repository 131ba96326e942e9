"""What `--workers N` brings, and what it costs, beside one process.

    python -m bench.workers --save

Serves the same models by one process (`--workers 0`) and by 1 to N workers, and asks each in turns
(A B C A B C ...) on all processors, as the load generator does: small requests (one MNIST image,
3 KB) and large ones (256 CIFAR images, 3 MB in and out), over REST with binary tensors in a closed
loop. Where the generator takes a share of the processors, throughput says as much of it as of the
server; so processor time for a request is told as well, of the server's processes together, by the
kernel's count. It is the figure to compare on machines with few processors.
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
from bench.cases import BINARY, oip_request
from bench.generator import Generator, closed, generator
from bench.lineup import PICTURE
from bench.machine import cpu_seconds
from bench.models import Subject, cifar, mnist
from bench.peers import ours
from bench.peers.base import ROOT, Running
from bench.record import RESULTS, provenance
from bench.report import Sheet

SMALL: Final = "small"
LARGE: Final = "large"
CONNECTIONS: Final = {SMALL: 32, LARGE: 4}
_TIMEOUT: Final = 30.0
_CAPTION: Final = (
    "Medians of rounds in turns, with their range. CPU: the server's processor time for a request, "
    "of all its processes. over 0, over 1: of requests a second, round by round."
)


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement: answers per second, seconds of processor time each, and latencies."""

    throughput: float
    cost: float
    p50: float
    p99: float
    errors: int


@dataclass(frozen=True, slots=True)
class Result:
    """The windows of one kind of request to one number of workers, in the order of the rounds."""

    kind: str
    workers: int
    windows: Sequence[Window]

    def spread(self, name: str, scale: float) -> str:
        """Median and range of one figure."""
        values = [scale * getattr(window, name) for window in self.windows]
        return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"

    def over(self, other: "Result") -> str:
        """Throughput as a multiple of another's."""
        pairs = zip(self.windows, other.windows, strict=True)
        ratios = [mine.throughput / theirs.throughput for mine, theirs in pairs]
        return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


@dataclass(frozen=True, slots=True)
class _Served:
    running: Running
    asking: Generator

    def window(self, connections: int, seconds: float) -> Window:
        used: list[float] = []

        def look() -> None:
            used.append(cpu_seconds(self.running.pid))

        step = closed(connections, seconds, min(seconds, 1), _TIMEOUT)
        tally = self.asking.run(step, look, look)
        latency = tally.latency
        p50, p99 = (latency.percentile(percent) / 1e9 for percent in (50, 99))
        answers = max(tally.answered_in_time, 1)
        cost = (used[1] - used[0]) / answers
        return Window(answers / tally.elapsed, cost, p50, p99, tally.failed)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    processors = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", nargs="+", type=int, default=[0, *range(1, processors + 1)])
    parser.add_argument("--kinds", nargs="+", choices=CONNECTIONS, default=[*CONNECTIONS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="length of a window")
    parser.add_argument("--model", default="mnist-cnn", help="a published MNIST classifier")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--save", action="store_true", help="keep a record in bench/results/")
    return parser.parse_args(given)


def measure(told: argparse.Namespace, console: Console) -> list[Result]:
    """Start a server for each number of workers, and measure them in turns."""
    with ExitStack() as stack:
        repository = Path(stack.enter_context(TemporaryDirectory(prefix="bench-workers-")))
        subjects = {
            SMALL: mnist(told.repository / told.model / "1" / "model.onnx", PICTURE, repository),
            LARGE: cifar(repository),
        }
        running = {
            count: stack.enter_context(ours.serve(repository, f"--workers={count}"))
            for count in told.workers
        }
        progress = stack.enter_context(Progress(console=console))
        total = len(told.kinds) * len(running) * told.rounds
        task = progress.add_task("measuring", total=total)
        results = []
        for kind in told.kinds:
            servers = {
                count: _served(each, subjects[kind], stack) for count, each in running.items()
            }
            windows: dict[int, list[Window]] = {count: [] for count in servers}
            for _ in range(told.rounds):
                for count, server in servers.items():
                    windows[count].append(server.window(CONNECTIONS[kind], told.seconds))
                    progress.advance(task)
            results += [Result(kind, count, windows[count]) for count in servers]
    return results


def _served(running: Running, subject: Subject, stack: ExitStack) -> _Served:
    request = oip_request(BINARY, subject)
    load_rest.check(running.http, request, subject.expected)
    return _Served(running, stack.enter_context(generator(running.http, request)))


def sheet(results: Sequence[Result]) -> Sheet:
    """A row for each kind and number of workers."""
    known = {(each.kind, each.workers): each for each in results}
    rows = [
        [
            each.kind,
            str(each.workers),
            each.spread("throughput", 1),
            *(
                each.over(known[each.kind, count]) if (each.kind, count) in known else ""
                for count in (0, 1)
            ),
            each.spread("cost", 1e6),
            each.spread("p50", 1e6),
            each.spread("p99", 1e6),
            str(sum(window.errors for window in each.windows)),
        ]
        for each in results
    ]
    headings = (
        *("requests", "workers", "requests/s", "over 0", "over 1", "CPU us", "p50 us", "p99 us"),
        "errors",
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
