"""The core's records as plain values, and back: what is not asked often enough to need its own way.

a record      (name of its class, field, field, ...)
an enum       (name of its class, value)
a sequence    [item, ...], which comes back as a tuple
a mapping     {key: value, ...}
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, Final

from serving import statistics, types
from serving.dtypes import Datatype
from serving.statistics import Histogram, VersionStatistics
from serving.summaries import Summaries

# How many records are converted between two turns of the event loop: some tenths of a millisecond.
AT_ONCE: Final = 8

_ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes})
_KINDS: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        Datatype,
        types.ModelState,
        statistics.BuildState,
        statistics.FailureReason,
        statistics.ServerFailure,
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
        VersionStatistics,
    )
}


def to_plain(value: Any) -> Any:
    """`value` as plain values; summaries, which look at the last minute only, become None."""
    kind: Any = type(value)
    return value if kind in _ATOMS else _writer(kind)(value)


def from_plain(value: Any) -> Any:
    """What `to_plain` was given."""
    if isinstance(value, tuple):
        name, *parts = value
        return _histogram(*parts) if name == "Histogram" else _KINDS[name](*_all_from_plain(parts))
    if isinstance(value, list):
        return tuple(_all_from_plain(value))
    if isinstance(value, dict):
        return {from_plain(key): from_plain(each) for key, each in value.items()}
    return value


def copied(version: VersionStatistics) -> VersionStatistics:
    """As it is now, whatever is counted later; but for its summaries."""
    copy: VersionStatistics = from_plain(to_plain(version))
    copy.summaries = version.summaries
    return copy


async def in_turns(convert: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """Each of `values` converted; requests are answered meanwhile, as there may be thousands."""
    converted: list[Any] = []
    for start in range(0, len(values), AT_ONCE):
        if start:
            await asyncio.sleep(0)
        converted += map(convert, values[start : start + AT_ONCE])
    return converted


# Most of what records are made of is plain already: a call for each would double the price.
def _all_to_plain(values: Iterable[Any]) -> list[Any]:
    return [each if type(each) in _ATOMS else to_plain(each) for each in values]


def _all_from_plain(values: Iterable[Any]) -> list[Any]:
    return [each if type(each) in _ATOMS else from_plain(each) for each in values]


@cache
def _writer(kind: Any) -> Callable[[Any], Any]:
    """What makes plain values of one of this kind."""
    if issubclass(kind, Enum):
        return lambda value: (kind.__name__, value.value)
    if issubclass(kind, Mapping):
        return lambda value: {to_plain(key): to_plain(each) for key, each in value.items()}
    if issubclass(kind, list | tuple):
        return _all_to_plain
    if issubclass(kind, Summaries):
        return lambda _: None
    if issubclass(kind, Histogram):
        return lambda value: ("Histogram", list(value.bounds), list(value.counts), value.sum)
    read = attrgetter("__class__.__name__", *(field.name for field in fields(kind)))
    return lambda value: tuple(_all_to_plain(read(value)))


def _histogram(bounds: Sequence[float], counts: Sequence[int], total: int) -> Histogram:
    histogram = Histogram(tuple(bounds))
    histogram.counts, histogram.sum = list(counts), total
    return histogram
