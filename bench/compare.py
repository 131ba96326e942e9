"""Penstock beside what users would pick instead, in one run, on one core, with one ONNX file.

    python -m bench.compare --quick --only rest-binary --against fastapi raw
    python -m bench.compare --quick
    python -m bench.compare --save compare

The first takes half a minute, the second four, the third an hour and leaves a record in
bench/results/. `--install litserve bentoml mlserver` builds environments for those; --quick is
without them unless they are named.

The servers share one processor, the load generator has another. All are started before the first
window; then they are measured in turns (A B C A B C ...), one at a time, and each round gives a
ratio. Before its windows, each server's answer is held against the raw runtime's.

    ours      penstock serve, everything on
    fastapi   FastAPI + pydantic + ONNX Runtime as most people write it; JSON, whatever the kind
    litserve  LitServe with batches; JSON, whatever the kind
    bentoml   BentoML with adaptive batches; JSON, whatever the kind
    mlserver  MLServer with adaptive batches; rest-json and grpc
    triton    the real Triton, its Python backend around ONNX Runtime
    base      penstock serve of the checkout that --base names
    raw       session.run alone, one thread: single images for one connection, else its best batch

Kinds: rest-binary, rest-json and grpc are one FP32 image [1, 1, 28, 28] a request; the large ones
256 CIFAR images, 3 MB in and out, of large-shared in system shared memory by Triton's extension,
which one Penstock copies and another maps; models asks one of two and one of a hundred loaded
models; starts is the time from the start of a process to its first right answer, for Penstock also
with all the models of --repository.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.progress import Progress

from bench import cases, machine, record, report, starts
from bench.contestants import RAW, Contestant, Over
from bench.lineup import (
    BASE,
    COMMITTED,
    FASTAPI,
    FEW_CONNECTIONS,
    MANY_CONNECTIONS,
    OTHERS,
    OTHERWISE,
    OURS,
    PEERS,
    PENSTOCK,
    TRITON,
    Absent,
    Bench,
    base,
    committed,
    prepare,
    start,
    start_one,
)
from bench.load import TOOLS, Wrong, tool
from bench.peers import environments
from bench.peers.base import QUIET, ROOT
from bench.windows import Result, measure

STARTS: Final = "starts"
WIDTH: Final = 170
KINDS: Final = (*cases.SMALL, *cases.LARGE, cases.MODELS, STARTS)
# Connections where the command line does not say: the small kinds', the large ones', models'.
FULL: Final = ((1, 32, 128, 256), (1, 4), (32,))
QUICK_OTHERS: Final = (FASTAPI, TRITON, RAW)
QUICK: Final = ((1, 32), (1,), (32,))


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of one second")
    parser.add_argument("--only", nargs="+", default=KINDS, choices=KINDS, metavar="KIND")
    parser.add_argument("--against", nargs="+", choices=OTHERS, metavar="SERVER")
    parser.add_argument("--connections", nargs="+", type=int, help="of the small kinds")
    parser.add_argument("--rounds", type=int, help="windows of each server in each case")
    parser.add_argument("--seconds", type=int, help="length of a window")
    parser.add_argument("--model", default="mnist-cnn", help="a published MNIST classifier")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--base", type=Path, help="another checkout of Penstock to stand beside")
    parser.add_argument("--save", metavar="NAME", help="keep a record under that name")
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="where records are")
    parser.add_argument("--install", nargs="+", metavar="SERVER", help="build environments first")
    told = parser.parse_args(given)
    told.against = told.against or (QUICK_OTHERS if told.quick else OTHERS)
    if told.base:
        told.against = (BASE, *told.against)
    told.rounds = told.rounds or (3 if told.quick else 5)
    told.seconds = told.seconds or (1 if told.quick else 3)
    return told


def todo(told: argparse.Namespace) -> list[cases.Case]:
    """What is measured in windows, in this order."""
    small, large, models = QUICK if told.quick else FULL
    connections = dict.fromkeys(cases.SMALL, told.connections or small)
    connections |= dict.fromkeys(cases.LARGE, large) | {cases.MODELS: models}
    return [
        cases.Case(kind, count)
        for kind in told.only
        if kind != STARTS
        for count in connections[kind]
    ]


def run(told: argparse.Namespace, console: Console) -> record.Run:
    """Measure all that was asked for."""
    for name in TOOLS:
        tool(name)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="bench-compare-")))
        published = told.repository / told.model / "1" / "model.onnx"
        bench = prepare(published, scratch / "models")
        if told.base:
            bench = replace(bench, peers={**PEERS, BASE: base(told.base)})
        stack.enter_context(machine.pinned(bench.cores.load))
        progress = stack.enter_context(Progress(console=console, transient=True))
        absent, results = in_windows(told, bench, progress)
        started = {}
        if STARTS in told.only:
            left_out = {RAW, *(each.name for each in absent)}
            names = [name for name in told.against if name not in left_out]
            alone = committed(told.repository, told.model, bench.cores)
            benches = {OURS: bench, COMMITTED: alone, **dict.fromkeys(names, bench)}
            task = progress.add_task("starting", total=(1 + told.rounds) * len(benches))
            advance = partial(progress.advance, task)
            started = dict(starts.measure(benches, told.rounds, advance))
    options = {name: getattr(told, name) for name in ("rounds", "seconds", "model")}
    return record.Run(options, results, started, absent)


def in_windows(
    told: argparse.Namespace, bench: Bench, progress: Progress
) -> tuple[list[Absent], list[Result]]:
    """Who could not be started, and the results of the others.

    Who ends in one case is started again for the next, and is left out where that fails.
    """
    otherwise = [name for kind, name in OTHERWISE.items() if kind in told.only]
    absent: list[Absent] = []
    results: list[Result] = []
    with ExitStack() as stack:
        running: dict[str, Contestant] = {OURS: start_one(bench, OURS, stack)}

        def add(names: Iterable[str]) -> None:
            for one in start(bench, names, stack):
                if isinstance(one, Absent):
                    absent.append(one)
                    running.pop(one.name, None)
                else:
                    running[one.name] = one

        def asked(case: cases.Case) -> list[Contestant]:
            able = [one for one in running.values() if case.kind in one.kinds]
            if case.kind in cases.SMALL and case.connections == MANY_CONNECTIONS:
                able.insert(1, Over(running[OURS], FEW_CONNECTIONS))
            return able

        add((*otherwise, *told.against))
        steps = sum(len(asked(case)) * (told.rounds + 1) for case in todo(told))
        advance = partial(progress.advance, progress.add_task("measuring", total=steps))
        for case in todo(told):
            if results:
                add(results[-1].ended)
            results.append(measure(case, asked(case), told.rounds, told.seconds, advance))
            for name in PENSTOCK & results[-1].ended.keys():
                raise results[-1].ended[name]
    return absent, results


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print; exit code 2 says that nothing could be measured, 1 that answers failed."""
    told = arguments(given)
    os.environ.update(QUIET)
    # A file or a pipe has no width of its own, and the tables need one. No markup: what servers
    # have said, such as tracebacks, is full of brackets.
    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False)
    try:
        for name in told.install or ():
            environments.build(name)
        found = run(told, console)
    except (machine.Unavailable, Wrong) as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)
    for sheet in found.sheets():
        console.print(sheet.drawn())
    for absent in found.absent:
        console.print(f"not measured: {absent.name}: {absent.reason}", soft_wrap=True)
    for ended, how in report.endings(found.results).items():
        console.print(f"{ended}: {how}", soft_wrap=True)
    console.print(machine.hardware())
    if told.save:
        console.print("written:", *record.save(found, told.save, told.results))
    sys.exit(any(result.errors for result in found.results))


if __name__ == "__main__":
    main()
