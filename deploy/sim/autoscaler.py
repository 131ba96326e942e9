"""The HorizontalPodAutoscaler's published algorithm, step by step, by the `spec` of a manifest.

As Kubernetes' documentation has it (Horizontal Pod Autoscaling, algorithm details): each metric
says how many replicas are needed, the highest need counts; then stabilisation windows and policies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

# How often the autoscaler looks, in seconds, which is one step; and what it lets pass.
STEP: Final = 15
TOLERANCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric's average over the pods that tell it, over its target; and how many do not.

    Who is not `ready` tells nothing that would count (processors are busy as a server starts), and
    who is `missing` has told nothing yet.
    """

    ratio: float
    told: int
    unready: int = 0
    missing: int = 0

    def need(self, replicas: int) -> int:
        """The replicas that this metric asks for, where there are so many now."""
        # In doubt for less change: the silent are idle if more are needed, at the target if not.
        more = self.ratio > 1
        silent = self.missing + (self.unready if more else 0)
        count = self.told + silent
        ratio = (self.ratio * self.told + (0 if more else silent)) / count
        if abs(ratio - 1) <= TOLERANCE or (ratio > 1) != more:
            return replicas
        wanted = math.ceil(ratio * count)
        return max(wanted, replicas) if more else min(wanted, replicas)


class Autoscaler:
    """Replicas from metrics."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self.replicas: int = spec["minReplicas"]
        self._needs: list[int] = []
        self._history: list[int] = [self.replicas]

    def step(self, readings: Sequence[Reading]) -> int:
        """The replicas after a look at the metrics."""
        self._needs.append(max(reading.need(self.replicas) for reading in readings))
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
        start = _last(self._history, policy["periodSeconds"])[0]
        if policy["type"] == "Pods":
            return start + sign * int(policy["value"])
        changed: float = start * (1 + sign * policy["value"] / 100)
        return math.ceil(changed) if sign > 0 else math.floor(changed)


def _last(values: Sequence[int], seconds: int) -> Sequence[int]:
    return values[-max(1, seconds // STEP) :]
