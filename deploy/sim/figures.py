"""What a scenario came to: counts, latencies by phase, times, and whether its promise was kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from deploy.sim.load import PROTOCOLS, Asked
from deploy.sim.network import REPLICAS
from deploy.sim.scenarios import SCENARIOS, Fault, Outcome

PHASES: Final = ("before", "fault", "return", "after")
# Envoy's response flags.
_FLAGS: Final = {
    "UT": "no answer in time",
    "UC": "connection lost",
    "UF": "not reached",
    "UR": "reset by the replica",
    "UO": "limit reached",
    "UH": "no healthy replica",
    "DC": "client gave up",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """Of a phase's requests; milliseconds of right answers, None where there were none."""

    asked: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """Of a fault, in seconds: until Envoy left the replica out, and until it took it back.

    The latter counts from when the replica could answer again, or its new process was started.
    """

    replica: int
    eject: float
    back: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A scenario in numbers."""

    name: str
    asked: dict[str, int]
    failed: dict[str, int]
    reasons: dict[str, int]
    # Failed requests that the scenario's promise does not cover.
    unexplained: int
    # Sent to a second replica.
    tried_again: int
    # Of each replica, as a share of all requests.
    shares: list[float]
    phases: dict[str, Phase]
    times: list[Times]

    @property
    def kept(self) -> bool:
        """Whether nothing failed but what may."""
        return not self.unexplained


def phase(asked: Asked, faults: Sequence[Fault]) -> str:
    """Where a request belongs: what it overlaps with, a fault first."""
    if any(asked.due < fault.over and asked.over >= fault.began for fault in faults):
        return "fault"
    if any(asked.due < fault.returned and asked.over >= fault.over for fault in faults):
        return "return"
    return "after" if faults and asked.due >= faults[0].began else "before"


def excused(asked: Asked, entry: Mapping[str, Any] | None, faults: Sequence[Fault]) -> bool:
    """Whether a failed request was in hand at a replica that fell silent, as Envoy's log has it."""
    return any(
        entry is not None
        and entry["replica"] == fault.replica
        and asked.due <= fault.silent
        and asked.over >= fault.began
        for fault in faults
    )


def reason(asked: Asked, entry: Mapping[str, Any] | None) -> str:
    """Why a request failed, in a few words."""
    flags = str((entry or {}).get("flags") or "").split(",")
    told = [_FLAGS[flag] for flag in flags if flag in _FLAGS]
    return ", ".join(told) or asked.failure.partition("\n")[0][:80]


def of(outcome: Outcome) -> Figures:
    """The figures of a scenario that was played."""
    entries = outcome.entries
    failed = [each for each in outcome.asked if each.failure]
    # Where clients let a second replica be asked, nothing may fail.
    covered = [] if SCENARIOS[outcome.name].hedged else outcome.faults
    served = Counter(entry["replica"] for entry in entries.values())
    return Figures(
        outcome.name,
        {name: sum(each.protocol == name for each in outcome.asked) for name in PROTOCOLS},
        {name: sum(each.protocol == name for each in failed) for name in PROTOCOLS},
        dict(Counter(reason(each, entries.get(each.id)) for each in failed)),
        sum(not excused(each, entries.get(each.id), covered) for each in failed),
        sum(entry["attempts"] > 1 for entry in entries.values()),
        [round(served[replica] / len(outcome.asked), 3) for replica in range(REPLICAS)],
        {name: _phase(outcome, name) for name in PHASES},
        [
            Times(
                fault.replica,
                round(fault.ejected - fault.began, 3),
                round(fault.returned - fault.over, 3),
            )
            for fault in outcome.faults
        ],
    )


def _phase(outcome: Outcome, name: str) -> Phase:
    asked = [each for each in outcome.asked if phase(each, outcome.faults) == name]
    right = [each.seconds for each in asked if not each.failure]
    p50, p99 = (round(1e3 * float(np.percentile(right, q)), 2) if right else None for q in (50, 99))
    return Phase(len(asked), len(asked) - len(right), p50, p99)
