"""Whether a finished test has met its objectives, by Locust's own figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Final

from serving.bench import slo

FIRST_EVENT: Final = "first event"  # of a stream: a line of the report, and no request of its own

_UNITS: Final = {"errors": (100, " %"), "throughput": (1, "/s")}
_LATENCY: Final = (1000, " ms")


@dataclass(frozen=True, slots=True)
class _Measured:
    """Locust's total of all requests.

    Its latencies are to the millisecond below 100 ms and to two digits above, and count failures.
    """

    total: Any

    @property
    def answered(self) -> int:
        return int(self.total.num_requests - self.total.num_failures)

    @property
    def errors(self) -> float:
        return float(self.total.fail_ratio)

    @property
    def throughput(self) -> float:
        return float(self.total.total_rps - self.total.total_fail_per_sec)

    @property
    def goodput(self) -> float:
        raise NotImplementedError("options refuse objectives for goodput")

    def latency(self, name: str) -> float:
        if not self.answered:
            return nan  # what Locust has then is how quickly requests failed
        if name == "mean":
            return float(self.total.avg_response_time) / 1000
        if name == "max":
            return float(self.total.max_response_time) / 1000
        return float(self.total.get_response_time_percentile(float(name[1:]) / 100)) / 1000


def asked(stats: Any) -> Any:
    """Of Locust's statistics the total, of requests alone."""
    total = type(stats.total)(stats, "requests", "")
    for entry in stats.entries.values():
        if entry.method != FIRST_EVENT:
            total.extend(entry)
    return total


def judge(texts: Sequence[str], total: Any) -> tuple[slo.Verdict, ...]:
    """A verdict on each objective of the texts; nothing may fail unless they say how much."""
    objectives = slo.complete([slo.parse(text) for text in texts])
    return slo.judge(objectives, _Measured(total))


def passed(verdicts: Sequence[slo.Verdict], total: Any) -> bool:
    """True where there were answers, and every objective is met; without any: nothing failed."""
    if total.num_requests <= total.num_failures:
        return False
    return all(verdict.met for verdict in verdicts) if verdicts else total.num_failures == 0


def line(verdict: slo.Verdict) -> str:
    """`met     p99=50ms: 12 ms`."""
    scale, unit = _UNITS.get(verdict.objective.name, _LATENCY)
    outcome = "met" if verdict.met else "missed"
    measured = verdict.measured * scale
    figure = "no right answer" if isnan(measured) else f"{measured:.4g}{unit}"
    return f"{outcome:<7} {verdict.objective.text}: {figure}"
