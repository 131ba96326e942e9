"""Replicas that the autoscaler's manifest asks for under traffic, and what becomes of requests."""

import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.sim.autoscaler import STEP, Autoscaler, Reading

ROOT: Final = Path(__file__).parents[2]
MANIFEST: Final = ROOT / "deploy/kubernetes/overlays/autoscale-hpa/autoscaler.yaml"
HOUR: Final = 3600 // STEP
# A replica's: requests a second, and seconds until it is ready.
CAPACITY: Final = 100.0
START: Final = 45
# penstock_load is averaged over a minute.
_SCRAPES: Final = 4
# Replicas by which they may go to and fro: a tenth of noise moves their number by as much.
WIDTH: Final = 3


def _noisy(rates: Iterable[float]) -> list[float]:
    """With a tenth of noise, the same in every run."""
    source = random.Random(1)
    return [rate * source.uniform(0.9, 1.1) for rate in rates]


def ramp() -> list[float]:
    """From 100 requests a second to 1,200 in an hour, an hour of that, and back."""
    up = [100 + 1100 * step / HOUR for step in range(HOUR)]
    return _noisy([*up, *[1200.0] * HOUR, *reversed(up), *[100.0] * HOUR])


def spike() -> list[float]:
    """Five times as many for twenty minutes, at once."""
    return _noisy([*[150.0] * HOUR, *[750.0] * (HOUR // 3), *[150.0] * (2 * HOUR)])


def days() -> list[float]:
    """Two days: least at night, most in the afternoon."""
    return _noisy(
        800 - 600 * math.cos(2 * math.pi * step / (24 * HOUR)) for step in range(48 * HOUR)
    )


TRAFFIC: Final[Mapping[str, Callable[[], list[float]]]] = {
    "ramp": ramp,
    "spike": spike,
    "two days": days,
}


@dataclass(slots=True)
class Run:
    """What came of some traffic, step by step."""

    rates: list[float] = field(default_factory=list)  # requests a second
    ready: list[int] = field(default_factory=list)  # replicas that answered them
    replicas: list[int] = field(default_factory=list)  # that there were to be
    loads: list[float] = field(default_factory=list)  # penstock_load, as the autoscaler saw it
    refused: list[float] = field(default_factory=list)  # requests a second

    @property
    def in_time(self) -> float:
        """The share of requests that were answered within the objective."""
        return 1 - sum(self.refused) / sum(self.rates)

    @property
    def longest_late(self) -> int:
        """Seconds that it took at most until nobody was refused any more."""
        return STEP * max(
            sum(1 for _ in steps) if late else 0
            for late, steps in groupby(refused > 0 for refused in self.refused)
        )

    def turns(self, width: int = WIDTH) -> int:
        """How often the replicas went back by `width` or more from where they had got to."""
        turns, way, extreme = 0, 0, self.replicas[0]
        for count in self.replicas:
            if way * (count - extreme) > 0 or not way:
                way = way or (count > extreme) - (count < extreme)
                extreme = count
            elif abs(count - extreme) >= width:
                turns, way, extreme = turns + 1, -way, count
        return turns


def manifest() -> dict[str, Any]:
    """The `spec` of the autoscaler that is deployed."""
    spec: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["spec"]
    return spec


def simulate(spec: dict[str, Any], traffic: Iterable[float], by_load_alone: bool = False) -> Run:
    """Scale for `traffic`, in requests a second by step.

    What cannot be answered within the objective is refused, so that the load is 1 at the most;
    below saturation nobody waits, and it is 0.
    """
    load, cpu = spec["metrics"]
    load_target = float(load["pods"]["target"]["averageValue"].removesuffix("m")) / 1000
    cpu_target = cpu["resource"]["target"]["averageUtilization"] / 100
    autoscaler, run = Autoscaler(spec), Run()
    asked_for = deque([autoscaler.replicas] * (START // STEP), START // STEP)
    told: deque[tuple[int, float]] = deque(maxlen=_SCRAPES)
    for rate in traffic:
        # Whoever has been asked for long enough is there, and whoever is to go has gone.
        ready = min(*asked_for, autoscaler.replicas)
        starting = autoscaler.replicas - ready
        asked_for.append(autoscaler.replicas)
        capacity = CAPACITY * ready
        told.appendleft((ready, float(rate > capacity)))
        average = _load(told)
        readings = [Reading(average / load_target, ready, missing=starting)]
        if not by_load_alone:
            usage = min(1.0, rate / capacity)
            readings.append(Reading(usage / cpu_target, ready, unready=starting))
        run.rates.append(rate)
        run.ready.append(ready)
        run.refused.append(max(0.0, rate - capacity))
        run.loads.append(average)
        run.replicas.append(autoscaler.step(readings))
    return run


def _load(told: Sequence[tuple[int, float]]) -> float:
    """The replicas' average of what each has told since it was ready, for a minute at the most.

    `told` are replicas and their load by step, the latest first.
    """
    total, sums = 0.0, 0.0
    # Those that were there at each of so many steps, but not before.
    counts = [min(ready for ready, _ in list(told)[: age + 1]) for age in range(len(told))]
    for age, (count, older) in enumerate(pairwise([*counts, 0]), start=1):
        sums += told[age - 1][1]
        total += (count - older) * sums / age
    return total / counts[0]
