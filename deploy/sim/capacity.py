"""How many processors, GPUs and dollars a rate of requests takes, by figures and assumptions.

    python -m deploy.sim.capacity                       # the tables of docs/scale.md
    python -m deploy.sim.capacity --rate 5000 --set gpu_images=2500 vcpu_hour=0.03

What was measured comes from bench/results/sim.json. Everything else is a field of `Assumptions`, by
whose name `--set` changes it.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from bench.record import RESULTS

MEASURED: Final = RESULTS / "sim.json"
RATES: Final = (1_000, 100_000)
# Of a replica, a second, by each Envoy: two clusters, each every half second (envoy.yaml).
CHECKS: Final = 4
# Assumptions that can be 0.
_MAY_BE_NONE: Final = {
    *("vcpu_hour", "gpu_hour", "zone_gigabyte", "image_bytes"),
    *("replica_us_per_mb", "envoy_us_per_mb"),
}


def _assumed(value: float, why: str) -> Any:
    return field(default=value, metadata={"why": why})


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was not measured, each with its reason."""

    utilisation: float = _assumed(
        0.5, "share of a processor or GPU that is busy at the peak; the rest is for bursts"
    )
    zones: float = _assumed(3, "zones; with any one of them lost, the others carry the peak")
    peak_to_mean: float = _assumed(
        2, "peak over mean of the day; all machines run all day, which autoscaling improves"
    )
    vcpu_hour: float = _assumed(0.04, "dollars for a processor and its 4 GB, on demand")
    gpu_hour: float = _assumed(0.8, "dollars for an inference GPU of 24 GB, on demand")
    zone_gigabyte: float = _assumed(
        0.01,
        "dollars for a gigabyte from one zone to another, each way; two thirds of all go there",
    )
    framing: float = _assumed(1.06, "bytes on the wire over bytes of HTTP: Ethernet, IP, TCP, TLS")
    envoy_cores: float = _assumed(8, "processors of an Envoy at most, each with a worker")
    gpu_images: float = _assumed(
        1000, "images a second of one GPU, a ResNet-50 in FP16 within its SLO; not measured here"
    )
    image_bytes: float = _assumed(150_528, "a request of the image model: 224 x 224 x 3, UINT8")
    replica_us_per_mb: float = _assumed(
        812, "processor time for a megabyte: 2,436 us for 3 MB, run included (large-rest-binary)"
    )
    envoy_us_per_mb: float = _assumed(500, "the same of Envoy: four copies at 10 GB/s, and TLS")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not (0 if each.name in _MAY_BE_NONE else 1e-9) <= value < math.inf:
                raise ValueError(f"{each.name} cannot be {value:g}")
        if self.zones < 2 or self.zones % 1:
            raise ValueError(f"zones cannot be {self.zones:g}: of two or more one may be lost")
        if self.utilisation > 1:
            raise ValueError(f"utilisation is a share, and cannot be {self.utilisation:g}")


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request takes: microseconds of processors, bytes of HTTP, seconds of a GPU."""

    name: str
    replica_us: float
    envoy_us: float
    bytes_there: float
    bytes_back: float
    gpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demand at a rate takes; `hour` and `million` are dollars, all machines running."""

    demand: Demand
    rate: float
    replica_cores: int
    envoys: int
    envoy_cores: int
    gpus: int
    gigabits: float
    checks: int
    hour: float
    million: float


def demands(measured: Mapping[str, Any], assumed: Assumptions) -> list[Demand]:
    """The small model by each way that was measured, and a model of images on GPUs behind REST."""
    found = [
        Demand(
            f"small model on CPUs, {cost['way']}",
            *(cost[name] for name in ("replica_us", "envoy_us", "bytes_there", "bytes_back")),
        )
        for cost in measured["costs"]
    ]
    binary = next(cost for cost in measured["costs"] if cost["way"] == "rest-binary")
    megabytes = assumed.image_bytes / 1e6
    images = Demand(
        "image model on GPUs, rest-binary",
        # The small model's run is in there as well: on the safe side.
        binary["replica_us"] + megabytes * assumed.replica_us_per_mb,
        binary["envoy_us"] + megabytes * assumed.envoy_us_per_mb,
        binary["bytes_there"] + assumed.image_bytes,
        binary["bytes_back"],
        1 / assumed.gpu_images,
    )
    return [*found, images]


def plan(demand: Demand, rate: float, assumed: Assumptions) -> Plan:
    """Whole processors, GPUs and Envoys, spread over the zones, and what they cost."""
    zones = round(assumed.zones)
    spare = zones / (zones - 1) / assumed.utilisation

    def whole(seconds: float) -> int:
        # As many in each zone; what is left of rounding would be another machine.
        return zones * max(1, math.ceil(round(rate * seconds * spare / zones, 9)))

    replica_cores, envoy_cores = whole(demand.replica_us / 1e6), whole(demand.envoy_us / 1e6)
    gpus = whole(demand.gpu) if demand.gpu else 0
    # A GPU has a replica of its own, and that an event loop.
    replica_cores = max(replica_cores, gpus)
    envoys = zones * math.ceil(envoy_cores / zones / assumed.envoy_cores)
    wire = (demand.bytes_there + demand.bytes_back) * assumed.framing
    # Clients to Envoy are their own zone's; from there on, to any.
    crossing = wire / 1e9 * (zones - 1) / zones * 2 * assumed.zone_gigabyte
    machines = (replica_cores + envoy_cores) * assumed.vcpu_hour + gpus * assumed.gpu_hour
    mean = rate / assumed.peak_to_mean * 3600
    hour = machines + mean * crossing
    return Plan(
        *(demand, rate, replica_cores, envoys, envoy_cores, gpus),
        max(demand.bytes_there, demand.bytes_back) * assumed.framing * rate * 8 / 1e9,
        envoys * CHECKS,
        hour,
        hour / mean * 1e6,
    )


def tables(measured: Mapping[str, Any], assumed: Assumptions, rates: Sequence[float]) -> str:
    """Markdown: what was measured, what is assumed, and the plan."""
    return "\n".join(
        (
            *("Measured, per request (`bench/results/sim.json`):", "", *_measured(measured), ""),
            *("Assumed (each can be changed by `--set`):", "", *_assumptions(assumed), ""),
            *("The plan, for the peak:", "", *_plans(measured, assumed, rates)),
        )
    )


def _measured(measured: Mapping[str, Any]) -> list[str]:
    names = ("replica_us", "envoy_us", "bytes_there", "bytes_back")
    return [
        "| way | replica, CPU us | Envoy, CPU us | bytes there | bytes back |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {cost['way']} | {' | '.join(f'{cost[name]:,.0f}' for name in names)} |"
            for cost in measured["costs"]
        ),
    ]


def _assumptions(assumed: Assumptions) -> list[str]:
    return [
        "| name | value | what it is |",
        "|---|---:|---|",
        *(
            f"| `{each.name}` | {getattr(assumed, each.name):,g} | {each.metadata['why']} |"
            for each in fields(assumed)
        ),
    ]


def _plans(measured: Mapping[str, Any], assumed: Assumptions, rates: Sequence[float]) -> list[str]:
    rows = [plan(demand, rate, assumed) for demand in demands(measured, assumed) for rate in rates]
    return [
        "| requests | a second | replicas' cores | Envoys (cores) | GPUs | Gbit/s to replicas "
        "| checks a second of a replica | $ an hour | $ a million |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row.demand.name} | {row.rate:,.0f} | {row.replica_cores:,} "
            f"| {row.envoys:,} ({row.envoy_cores:,}) | {row.gpus or ''} | {row.gigabits:,.2f} "
            f"| {row.checks:,.0f} | {row.hour:,.2f} | {row.million:,.3f} |"
            for row in rows
        ),
    ]


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no finite number above 0")
    return value


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.sim.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=_rate, nargs="+", default=RATES, help="requests a second")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="changes")
    parser.add_argument("--measured", type=Path, default=MEASURED)
    options = parser.parse_args(given)
    try:
        pairs = (change.split("=") for change in options.changes)
        options.assumed = replace(Assumptions(), **{name: float(value) for name, value in pairs})
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    return options


def main(given: Sequence[str]) -> None:
    """Show the tables."""
    options = arguments(given)
    print(tables(json.loads(options.measured.read_text()), options.assumed, options.rate))


if __name__ == "__main__":
    main(sys.argv[1:])
