"""Where requests spent their time inside the server, by its own statistics."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_PHASES: Final = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True, slots=True)
class Split:
    """What the server counted between two looks at its statistics.

    The phases are means of a request in seconds. `requests` are those that succeeded, `rows` were
    computed for them in `executions`; answers from a cache need none.
    """

    requests: int
    rows: int
    executions: int
    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float

    @property
    def batch(self) -> float:
        """The mean rows of an execution."""
        return self.rows / max(self.executions, 1)

    @property
    def compute(self) -> float:
        """The mean seconds of computing, with what comes before and after it."""
        return self.compute_input + self.compute_infer + self.compute_output


def split(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Split | None:
    """What happened between the two documents of statistics; None where they do not say."""
    if before is None or after is None:
        return None
    try:
        begun, ended = _totals(before), _totals(after)
    except (AttributeError, TypeError, ValueError):  # of another form than Triton's
        return None
    grown = Counter({name: ended[name] - begun[name] for name in ended})
    requests = grown["success.count"]
    # A server that was started anew in between counts from 0 again.
    if requests <= 0 or min(grown.values()) < 0:
        return None
    means = {
        phase: grown[f"{phase}.ns"] / max(grown[f"{phase}.count"], 1) / 1e9 for phase in _PHASES
    }
    return Split(requests, grown["inference_count"], grown["execution_count"], **means)


def _totals(document: Mapping[str, Any]) -> Counter[str]:
    """Sums over the versions; over gRPC the numbers are texts."""
    totals: Counter[str] = Counter()
    for model in document.get("model_stats", ()):
        for name in ("inference_count", "execution_count"):
            totals[name] += int(model.get(name, 0))
        for phase in ("success", *_PHASES):
            counted = model.get("inference_stats", {}).get(phase, {})
            for figure in ("count", "ns"):
                totals[f"{phase}.{figure}"] += int(counted.get(figure, 0))
    return totals
