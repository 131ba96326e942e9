"""Goodput and latency of servers that are asked for more than they can answer, in one run.

    python -m bench.overload

An open loop: requests arrive independently of each other (Poisson), at 0.25 to 3 times what each
server can answer, whether or not those before them were answered, and latency counts from when a
request was due. Goodput counts answers within the objective. The server has one processor, the
load generator another; all servers have one and the same ONNX file, one after the other.

    penstock     told the objective (latency_objective_ms): refuses who would come too late
    fixed-delay  the same server, told nothing: batches wait for a fixed delay, nobody is refused
    litserve     LitServe with batches, if its environment is there (bench.compare --install)
    fastapi      FastAPI + pydantic + ONNX Runtime as most people write it

The exit code is 1 where Penstock does not keep its promise: at twice the saturation at least 90 %
of its best goodput, and the p99 of what it accepts within the objective. `--save` leaves a record
in bench/results/ and the picture in docs/.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from bench.machine import Unavailable, cores
from bench.overload.contestants import CONTESTANTS, OURS
from bench.overload.live import Live
from bench.overload.measure import Plan, curve
from bench.overload.network import residual
from bench.overload.record import Run, save
from bench.record import RESULTS

WIDTH: Final = 130
LOADS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slo", type=float, default=100, help="the objective in milliseconds")
    parser.add_argument("--loads", nargs="+", type=float, default=LOADS, metavar="MULTIPLE")
    parser.add_argument("--seconds", type=float, default=5, help="how long a load is measured")
    parser.add_argument("--warm-up", type=float, default=1, help="how long it runs before, seconds")
    parser.add_argument("--timeout", type=float, default=2, help="after which a client gives up")
    parser.add_argument("--blocks", type=int, default=12, help="of the residual network")
    parser.add_argument("--against", nargs="*", choices=[*CONTESTANTS], default=[*CONTESTANTS])
    parser.add_argument("--save", action="store_true", help="keep a record and a picture")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the record is kept")
    return parser.parse_args(given)


def run(told: argparse.Namespace, console: Console) -> Run:
    """Measure all that was asked for."""
    plan = Plan(told.slo / 1000, told.loads, told.seconds, told.warm_up, told.timeout)
    names = [name for name in CONTESTANTS if name == OURS or name in told.against]
    places = cores()
    curves, absent = [], {}
    with TemporaryDirectory(prefix="bench-overload-") as scratch, Live(console) as live:
        repository = Path(scratch)
        subject = residual(repository, told.blocks)
        for name in names:
            try:
                curves.append(curve(CONTESTANTS[name], repository, subject, plan, places, live))
            except Unavailable as reason:
                absent[name] = str(reason)
    return Run(plan, told.blocks, curves, absent)


def main() -> None:
    """Measure, print, keep, and judge."""
    told = arguments()
    # No markup: what servers have said, such as tracebacks, is full of brackets.
    width = None if sys.stdout.isatty() else WIDTH
    console = Console(highlight=False, markup=False, width=width)
    measured = run(told, Console(stderr=True, highlight=False))
    for sheet in measured.sheets():
        console.print(sheet.drawn())
    for name, reason in measured.absent.items():
        console.print(f"{name} was not measured: {reason}")
    if told.save:
        for file in save(measured, told.results):
            console.print(f"wrote {file}")
    console.print(measured.verdict())
    sys.exit(not measured.is_kept)


if __name__ == "__main__":
    main()
