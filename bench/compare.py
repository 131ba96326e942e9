"""Penstock beside what users would pick instead, in one run, on one core, with one ONNX file.

    python -m bench.compare --quick                                          under 2 minutes
    python -m bench.compare --quick --only rest-binary --against plain raw   half a minute

The servers share one processor, the load generator has another. All are started before the first
window; then they are measured in turns (A B C A B C ...), one at a time, and each round gives a
ratio. Before its windows, each server's answer is held against the raw runtime's.

    ours    penstock serve, everything on
    plain   FastAPI + pydantic + ONNX Runtime as most people write it; JSON, whatever the case
    triton  the real Triton, its Python backend around ONNX Runtime
    raw     session.run alone, one thread: single images for one connection, else its best batch
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from bench import cases, machine, models, report
from bench.contestants import RAW, Contestant, Server, raw
from bench.load import Wrong, tool
from bench.peers import ours, plain, triton
from bench.peers.base import QUIET, ROOT, Peer
from bench.windows import Result, measure

KINDS: Final = (cases.BINARY, cases.JSON)
PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer(report.OURS, "Penstock", ours.serve, cases.oip_request, KINDS),
        Peer("plain", "FastAPI + pydantic", plain.serve, cases.plain_request, KINDS),
        Peer("triton", "Triton, Python backend", triton.serve, cases.oip_request, KINDS),
    )
}
MODEL: Final = "mnist"
IMAGE: Final = ROOT / "docs" / "seven.png"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of one second")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument(
        "--against", nargs="+", choices=[*list(PEERS)[1:], RAW], default=[*list(PEERS)[1:], RAW]
    )
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--rounds", type=int, help="windows of each server in each case")
    parser.add_argument("--seconds", type=int, help="length of a window")
    parser.add_argument("--model", default="mnist-cnn", help="a published MNIST classifier")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    told = parser.parse_args(given)
    told.rounds = told.rounds or (3 if told.quick else 5)
    told.seconds = told.seconds or (1 if told.quick else 3)
    return told


@dataclass(frozen=True, slots=True)
class Bench:
    """What all contestants are given: the model's file, its repository, an image, the cores."""

    file: Path
    repository: Path
    images: models.Array
    expected: models.Array
    cores: machine.Cores


@dataclass(frozen=True, slots=True)
class Absent:
    """A contestant that cannot run here, and why."""

    name: str
    reason: str


def prepare(published: Path, scratch: Path) -> Bench:
    """Write the FP32 model of a published classifier, and ask the raw runtime about one image."""
    file = models.publish(published, scratch, [MODEL])
    pixels = np.array(Image.open(IMAGE).convert("L").resize(models.SHAPE[1:]), dtype=np.uint8)
    images = models.normalise(published, pixels.reshape(1, *models.SHAPE))
    (expected,) = models.session(file).run([models.OUTPUT], {models.INPUT: images})
    return Bench(file, scratch, images, expected, machine.cores())


def start(bench: Bench, names: Sequence[str], stack: ExitStack) -> Iterator[Contestant | Absent]:
    """Start each of them on the servers' core, until the stack is closed."""
    for name in names:
        with machine.pinned(bench.cores.server):
            try:
                started: Contestant | Absent = _start(bench, name, stack)
            except machine.Unavailable as reason:
                started = Absent(name, str(reason))
        yield started


def _start(bench: Bench, name: str, stack: ExitStack) -> Contestant:
    if name == RAW:
        return stack.enter_context(raw(bench.file, bench.cores.server))
    peer = PEERS[name]
    running = stack.enter_context(peer.serve(bench.repository, MODEL))
    return Server(peer, running, MODEL, bench.images, bench.expected, bench.cores)


def run(told: argparse.Namespace, console: Console) -> list[Result]:
    """Start everything, then measure case by case."""
    tool("wrk")
    todo = [cases.Case(kind, count) for kind in told.only for count in told.connections]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="bench-compare-")))
        bench = prepare(told.repository / told.model / "1" / "model.onnx", scratch / "models")
        stack.enter_context(machine.pinned(bench.cores.load))
        found = list(start(bench, [report.OURS, *told.against], stack))
        contestants = [one for one in found if not isinstance(one, Absent)]
        for absent in found:
            if isinstance(absent, Absent):
                console.print(f"not measured: {absent.name}: {absent.reason}")
        progress = stack.enter_context(Progress(console=console, transient=True))
        steps = len(todo) * len(contestants) * (told.rounds + 1)
        advance = partial(progress.advance, progress.add_task("measuring", total=steps))
        return [measure(case, contestants, told.rounds, told.seconds, advance) for case in todo]


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print; exit code 2 says that nothing could be measured, 1 that answers failed."""
    os.environ.update(QUIET)
    console = Console()
    try:
        results = run(arguments(given), console)
    except (machine.Unavailable, Wrong) as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)
    console.print(report.table(results))
    console.print(machine.hardware())
    sys.exit(any(result.errors for result in results))


if __name__ == "__main__":
    main()
