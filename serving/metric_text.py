"""Prometheus' text format, for what is told of each of thousands of model versions.

Byte for byte what prometheus_client makes of the same samples, at a tenth of its price: it checks,
sorts and escapes the labels of every sample anew.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from serving.statistics import Histogram

# Most counts and times of an idle model are 0, and buckets repeat each other's counts.
number = lru_cache(maxsize=1024)(floatToGoString)


def head(name: str, text: str, kind: str) -> str:
    """What a family begins with; `text` is one line without backslashes."""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


class Labels:
    """The labels of several samples; their names are known to be valid."""

    __slots__ = ("_named", "text")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._named = [(name, f'{name}="{_escaped(labels[name])}"') for name in sorted(labels)]
        self.text = f"{{{','.join(text for _, text in self._named)}}}"

    def around(self, name: str) -> tuple[str, str]:
        """What stands before and behind the value of one more label, which needs no escapes."""
        before = "".join(f"{text}," for other, text in self._named if other < name)
        behind = "".join(f",{text}" for other, text in self._named if other > name)
        return f'{{{before}{name}="', f'"{behind}}}'


def histogram_lines(name: str, labels: Labels, histogram: Histogram, unit: float) -> list[str]:
    """The samples of a histogram, `unit` of whose units make one of the metric's."""
    before, behind = labels.around("le")
    counts = [number(count) for count in accumulate(histogram.counts)]
    lines = [
        f"{name}_bucket{before}{bound}{behind} {count}\n"
        for bound, count in zip(_bounds(histogram.bounds, unit), counts, strict=True)
    ]
    lines.append(f"{name}_count{labels.text} {counts[-1]}\n")
    lines.append(f"{name}_sum{labels.text} {number(histogram.sum / unit)}\n")
    return lines


@lru_cache
def _bounds(bounds: Sequence[float], unit: float) -> tuple[str, ...]:
    return (*(f"{bound / unit:g}" for bound in bounds), "+Inf")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
