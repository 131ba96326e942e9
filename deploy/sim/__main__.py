"""A real Envoy in front of three replicas of Penstock that are stopped, killed, frozen, cut off.

    make sim                                      # all scenarios, some four minutes
    python -m deploy.sim --only killed frozen     # some of them
    python -m deploy.sim --save --picture docs/scale.png

Each runs under an open loop of tritonclient over REST and gRPC, whose answers are checked. The exit
code is 0 if every scenario kept its promise: none may fail, or only what a replica had in hand that
fell silent. docs/scale.md says more. Envoy is looked for in .venv-sim, or in PENSTOCK_ENVOY_ENV.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.machine import Unavailable
from deploy.sim import cost, envoy, figures, network, picture, replicas, report, scenarios


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list(scenarios.SCENARIOS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SCENARIO")
    parser.add_argument("--rate", type=float, default=80, help="requests a second, in all")
    parser.add_argument("--no-cost", action="store_true", help="leave out what a request costs")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    parser.add_argument("--save", action="store_true", help=f"write {report.FILE.name}")
    parser.add_argument("--picture", type=Path, help="write a PNG of latency over time")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """The exit code."""
    options = arguments(given)
    # No markup: what clients say of failures has brackets in it.
    console = Console(highlight=False, markup=False)
    try:
        # Before anything else is started, which would be outside the namespace.
        envoy.program()
        if not options.loopback and not network.is_own() and network.allowed():
            network.enter(given)
        return _run(options, console)
    except Unavailable as missing:
        console.print(str(missing), style="red")
        return 1


def _run(options: argparse.Namespace, console: Console) -> int:
    outcomes: list[scenarios.Outcome] = []
    absent: dict[str, str] = {}
    costs: list[cost.Cost] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="penstock-sim-")))
        wires = stack.enter_context(network.network())
        console.print(f"{network.REPLICAS} replicas on {wires.name}")
        servers = stack.enter_context(replicas.running(wires, folder))
        proxy = stack.enter_context(envoy.running(wires, folder))
        stage = scenarios.Stage(wires, servers, proxy)
        for name in options.only:
            console.print(f"{name} …")
            try:
                outcomes.append(asyncio.run(scenarios.play(stage, name, options.rate)))
            except network.NoWire as missing:
                absent[name] = str(missing)
        if not options.no_cost:
            costs = cost.quietest(stage, 3, folder)
    found = [figures.of(outcome) for outcome in outcomes]
    console.print(report.counts(found))
    console.print(report.latencies(found))
    for name, reason in absent.items():
        console.print(f"{name}: not run: {reason}")
    if costs:
        console.print(report.costs(costs))
    if options.save:
        said = {"rate": options.rate, "network": wires.name, "envoy": envoy.version()}
        report.save(found, costs, said, absent, report.FILE)
    if options.picture:
        picture.save(outcomes, options.picture)
    return 0 if all(each.kept for each in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
