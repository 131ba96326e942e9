"""Prometheus text from the statistics: Triton's names for its dashboards, histograms of our own.

The counters live in `serving.statistics`; they are turned into metrics when somebody scrapes, so
that a request pays for plain additions only.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from serving.host_metrics import HostMetrics
from serving.statistics import CacheStatistics, Histogram, VersionStatistics

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

Reader: TypeAlias = Callable[[VersionStatistics], float]

_COUNTERS: Final[tuple[tuple[str, str, Reader], ...]] = (
    ("nv_inference_request_success", "Successful inference requests", lambda s: s.success.count),
    ("nv_inference_count", "Rows inferred", lambda s: s.inference_count),
    ("nv_inference_exec_count", "Executions of the model", lambda s: s.execution_count),
    (
        "nv_inference_request_duration_us",
        "Cumulative time of successful requests from arrival to answer",
        lambda s: s.success.ns // 1000,
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative time requests waited in the queue",
        lambda s: s.queue.ns // 1000,
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative time requests spent in preparing the batch's inputs",
        lambda s: s.compute_input.ns // 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative time requests spent in executing the model",
        lambda s: s.compute_infer.ns // 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative time requests spent in handing out the batch's outputs",
        lambda s: s.compute_output.ns // 1000,
    ),
)

# Of the versions whose configuration asks for the response cache, and only of those.
_CACHE_COUNTERS: Final[tuple[tuple[str, str, Reader], ...]] = (
    (
        "nv_cache_num_hits_per_model",
        "Requests that the cache answered",
        lambda s: s.cache_hit.count,
    ),
    (
        "nv_cache_num_misses_per_model",
        "Requests that the cache could not answer",
        lambda s: s.cache_miss.count,
    ),
    (
        "nv_cache_hit_duration_per_model",
        "Cumulative time of lookups that found an answer, in microseconds",
        lambda s: s.cache_hit.ns // 1000,
    ),
    (
        "nv_cache_miss_duration_per_model",
        "Cumulative time of lookups that found none and of insertions, in microseconds",
        lambda s: s.cache_miss.ns // 1000,
    ),
)

# Of the cache as a whole; gauges, as Triton has them, though most of them only grow.
_CACHE_GAUGES: Final[tuple[tuple[str, str, Callable[[CacheStatistics], float]], ...]] = (
    ("nv_cache_util", "Share of the cache's bytes that are in use", lambda s: s.used / s.size),
    ("nv_cache_num_entries", "Answers in the cache", lambda s: s.entries),
    ("nv_cache_num_hits", "Lookups that found an answer", lambda s: s.hits),
    ("nv_cache_num_misses", "Lookups that found none", lambda s: s.misses),
    ("nv_cache_num_lookups", "Lookups", lambda s: s.hits + s.misses),
    ("nv_cache_num_evictions", "Answers that made room for others", lambda s: s.evictions),
    (
        "nv_cache_lookup_duration",
        "Cumulative time of lookups, in microseconds",
        lambda s: s.lookup_ns // 1000,
    ),
    (
        "nv_cache_insertion_duration",
        "Cumulative time of insertions, in microseconds",
        lambda s: s.insertion_ns // 1000,
    ),
)

# Name, text, how many of the histogram's units make one of the metric's, and where it is.
_HISTOGRAMS: Final[tuple[tuple[str, str, float, Callable[[VersionStatistics], Histogram]], ...]] = (
    (
        "penstock_request_duration_seconds",
        "Time of a successful request from arrival to answer",
        1e9,
        lambda s: s.request_histogram,
    ),
    (
        "penstock_queue_duration_seconds",
        "Time a request waited for its batch to start",
        1e9,
        lambda s: s.queue_histogram,
    ),
    (
        "penstock_compute_duration_seconds",
        "Time of one execution: inputs, model and outputs",
        1e9,
        lambda s: s.compute_histogram,
    ),
    ("penstock_batch_rows", "Rows of one execution", 1, lambda s: s.rows_histogram),
)

# prometheus_client ends the name of every counter in `_total`; Triton's names, which dashboards
# and autoscalers query, do not.
_TOTAL: Final = re.compile(rb"^(# (?:HELP|TYPE) nv_\w+)_total ", re.MULTILINE)


def _labels(statistics: VersionStatistics) -> dict[str, str]:
    return {"model": statistics.model, "version": statistics.version}


def _counters(
    table: Sequence[tuple[str, str, Reader]], versions: Sequence[VersionStatistics]
) -> Iterator[Metric]:
    for name, text, read in table:
        family = Metric(name, text, "counter")
        for version in versions:
            family.add_sample(name, _labels(version), read(version))
        yield family


class _ModelMetrics(Collector):
    """The metric families of some versions' statistics, and of the response cache's."""

    def __init__(
        self, versions: Sequence[VersionStatistics], cache: CacheStatistics | None
    ) -> None:
        self._versions = versions
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        yield from _counters(_COUNTERS, self._versions)
        caching = [version for version in self._versions if version.caches]
        if caching:
            yield from _counters(_CACHE_COUNTERS, caching)
        if self._cache:
            for name, text, read in _CACHE_GAUGES:
                yield GaugeMetricFamily(name, text, read(self._cache))
        yield self._failures()
        yield self._pending()
        yield from self._histograms()

    def _failures(self) -> Metric:
        name = "nv_inference_request_failure"
        family = Metric(name, "Failed inference requests by reason", "counter")
        for version in self._versions:
            for reason, count in version.failures.items():
                family.add_sample(name, _labels(version) | {"reason": reason.value}, count)
        return family

    def _pending(self) -> Metric:
        family = GaugeMetricFamily(
            "nv_inference_pending_request_count",
            "Requests that wait for execution",
            labels=("model", "version"),
        )
        for version in self._versions:
            family.add_metric((version.model, version.version), version.pending)
        return family

    def _histograms(self) -> Iterator[Metric]:
        for name, text, unit, read in _HISTOGRAMS:
            family = HistogramMetricFamily(name, text, labels=("model", "version"))
            for version in self._versions:
                histogram = read(version)
                bounds = [f"{bound / unit:g}" for bound in histogram.bounds]
                family.add_metric(
                    (version.model, version.version),
                    buckets=list(zip([*bounds, "+Inf"], accumulate(histogram.counts), strict=True)),
                    sum_value=histogram.sum / unit,
                )
            yield family


class Exposition:
    """Renders what `/metrics` answers: the models' statistics and the process's own figures."""

    def __init__(self) -> None:
        # A registry of our own: the library's global one would be shared by every server and
        # test in the process.
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._process.register(HostMetrics())

    def render(
        self, versions: Iterable[VersionStatistics], cache: CacheStatistics | None = None
    ) -> bytes:
        """The metrics in Prometheus' text format (`CONTENT_TYPE`)."""
        models = _TOTAL.sub(rb"\1 ", generate_latest(_ModelMetrics(tuple(versions), cache)))
        return models + generate_latest(self._process)
