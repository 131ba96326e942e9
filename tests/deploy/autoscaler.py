"""The HorizontalPodAutoscaler's published algorithm, and replicas for it to scale, step by step.

As Kubernetes' documentation has it (Horizontal Pod Autoscaling, algorithm details): the need by
each metric is the number of replicas times metric over target, the highest counts; then
stabilisation windows, then policies.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# How often the autoscaler looks, in seconds, which is one step here; and what it lets pass.
STEP: Final = 15
TOLERANCE: Final = 0.1
# A replica's: requests a second, and seconds until it is ready.
CAPACITY: Final = 100.0
START: Final = 45
# penstock_load is averaged over a minute.
_SCRAPES: Final = 4


class Autoscaler:
    """Replicas from metrics, by the `spec` of a manifest, step by step."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self.replicas: int = spec["minReplicas"]
        self._needs: list[int] = []
        self._history: list[int] = [self.replicas]

    def step(self, ratios: Sequence[float]) -> int:
        """The replicas after a look at the metrics, each over its target."""
        needs = [
            self.replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(self.replicas * ratio)
            for ratio in ratios
        ]
        self._needs.append(max(needs))
        wanted = self._limited(self._stabilised())
        self.replicas = min(max(wanted, self._spec["minReplicas"]), self._spec["maxReplicas"])
        self._history.append(self.replicas)
        return self.replicas

    def _stabilised(self) -> int:
        """Up to the lowest need of the one window, down to the highest of the other."""
        up, down = (self._spec["behavior"][way] for way in ("scaleUp", "scaleDown"))
        lowest = min(_last(self._needs, up["stabilizationWindowSeconds"]))
        highest = max(_last(self._needs, down["stabilizationWindowSeconds"]))
        return min(max(self.replicas, lowest), highest)

    def _limited(self, wanted: int) -> int:
        """No further than the most generous policy allows."""
        up = wanted > self.replicas
        policies = self._spec["behavior"]["scaleUp" if up else "scaleDown"]["policies"]
        limits = [self._limit(policy, 1 if up else -1) for policy in policies]
        return min(wanted, max(limits)) if up else max(wanted, min(limits))

    def _limit(self, policy: dict[str, Any], sign: int) -> int:
        period = _last(self._history, policy["periodSeconds"])
        # What the period began with, had it gone one way only.
        start = min(period) if sign > 0 else max(period)
        if policy["type"] == "Pods":
            return start + sign * int(policy["value"])
        changed: float = start * (1 + sign * policy["value"] / 100)
        return math.ceil(changed) if sign > 0 else math.floor(changed)


def _last(values: Sequence[int], seconds: int) -> Sequence[int]:
    return values[-max(1, seconds // STEP) :]


@dataclass
class Run:
    """What came of some traffic: replicas by step, and requests."""

    replicas: list[int] = field(default_factory=list)
    asked: float = 0.0
    refused: float = 0.0

    @property
    def in_time(self) -> float:
        """The share of requests that were answered within the objective."""
        return 1 - self.refused / self.asked

    def turns(self, width: int) -> int:
        """How often the replicas went back by `width` or more from where they had got to."""
        turns, way, extreme = 0, 0, self.replicas[0]
        for count in self.replicas:
            if way * (count - extreme) > 0 or not way:
                way = way or (count > extreme) - (count < extreme)
                extreme = count
            elif abs(count - extreme) >= width:
                turns, way, extreme = turns + 1, -way, count
        return turns


def simulate(spec: dict[str, Any], traffic: Iterable[float], by_load_alone: bool = False) -> Run:
    """Scale for `traffic`, in requests a second by step.

    What cannot be answered within the objective is refused, so that the load is 1 at the most;
    below saturation nobody waits, and it is 0.
    """
    load, cpu = spec["metrics"]
    targets = (
        float(load["pods"]["target"]["averageValue"].removesuffix("m")) / 1000,
        cpu["resource"]["target"]["averageUtilization"] / 100,
    )
    autoscaler, run = Autoscaler(spec), Run()
    starting: deque[int] = deque([autoscaler.replicas] * (START // STEP), START // STEP)
    loads: deque[float] = deque(maxlen=_SCRAPES)
    for rate in traffic:
        # Whoever has been asked for long enough is there, and whoever is to go has gone.
        capacity = CAPACITY * min(*starting, autoscaler.replicas)
        starting.append(autoscaler.replicas)
        run.asked += rate * STEP
        run.refused += max(0.0, rate - capacity) * STEP
        loads.append(float(rate > capacity))
        ratios = [sum(loads) / len(loads) / targets[0]]
        if not by_load_alone:
            ratios.append(min(1.0, rate / capacity) / targets[1])
        run.replicas.append(autoscaler.step(ratios))
    return run
