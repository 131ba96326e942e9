"""The core's records as plain values, and back: what is not asked often enough to need its own way.

a record      (name of its class, field, field, ...)
an enum       (name of its class, value)
a sequence    [item, ...], which comes back as a tuple
a mapping     {key: value, ...}
"""

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, Final

from serving import statistics, types
from serving.dtypes import Datatype
from serving.statistics import Histogram
from serving.summaries import Summaries

_ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes})
_ENUMS: Final[Mapping[str, type[Enum]]] = {
    kind.__name__: kind
    for kind in (
        Datatype,
        types.ModelState,
        statistics.BuildState,
        statistics.FailureReason,
        statistics.ServerFailure,
    )
}
_RECORDS: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        types.IndexEntry,
        types.LoadOverride,
        types.ModelMetadata,
        types.ServerMetadata,
        types.TensorSpec,
        statistics.BatchStatistics,
        statistics.CacheStatistics,
        statistics.Duration,
        statistics.ResponseStatistics,
        statistics.ServerStatistics,
        statistics.VersionStatistics,
    )
}


def to_plain(value: Any) -> Any:
    """`value` as plain values; summaries, which look at the last minute only, become None."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Enum):
        return type(value).__name__, value.value
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, Summaries):
        return None
    if isinstance(value, Histogram):
        return "Histogram", list(value.bounds), list(value.counts), value.sum
    parts = (to_plain(getattr(value, field.name)) for field in fields(value))
    return type(value).__name__, *parts


def from_plain(value: Any) -> Any:
    """What `to_plain` was given."""
    if isinstance(value, tuple):
        name, *parts = value
        return _made(name, [from_plain(part) for part in parts])
    if isinstance(value, list):
        return tuple(map(from_plain, value))
    if isinstance(value, dict):
        return {from_plain(key): from_plain(each) for key, each in value.items()}
    return value


def _made(name: str, parts: list[Any]) -> Any:
    if name in _ENUMS:
        return _ENUMS[name](*parts)
    if name == "Histogram":
        histogram = Histogram(parts[0])
        histogram.counts, histogram.sum = list(parts[1]), parts[2]
        return histogram
    return _RECORDS[name](*parts)
