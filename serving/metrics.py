"""Prometheus text from the statistics: Triton's names for its dashboards, histograms of our own.

The counters live in `serving.statistics`; they are turned into metrics when somebody scrapes, so
that a request pays for plain additions only.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from serving.gpu_metrics import gpu_metrics
from serving.host_metrics import HostMetrics
from serving.metrics_settings import MetricsConfig, MetricsSettings
from serving.statistics import BuildState, CacheStatistics, Histogram, VersionStatistics
from serving.summaries import Summaries, Summary

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

Reader: TypeAlias = Callable[[VersionStatistics], float]

_COUNTERS: Final[tuple[tuple[str, str, Reader], ...]] = (
    ("nv_inference_request_success", "Successful inference requests", lambda s: s.success.count),
    ("nv_inference_count", "Rows inferred", lambda s: s.inference_count),
    ("nv_inference_exec_count", "Executions of the model", lambda s: s.execution_count),
)

# Left out with --metrics-config=counter_latencies=false.
_LATENCY_COUNTERS: Final[tuple[tuple[str, str, Reader], ...]] = (
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

# With --metrics-config=summary_latencies=true; None where a version has no such summary.
_SUMMARIES: Final[tuple[tuple[str, str, Callable[[Summaries], Summary | None]], ...]] = (
    (
        "nv_inference_request_summary_us",
        "Time of successful requests from arrival to answer",
        lambda s: s.request,
    ),
    ("nv_inference_queue_summary_us", "Time requests waited in the queue", lambda s: s.queue),
    (
        "nv_inference_compute_input_summary_us",
        "Time requests spent in preparing the batch's inputs",
        lambda s: s.compute_input,
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "Time requests spent in executing the model",
        lambda s: s.compute_infer,
    ),
    (
        "nv_inference_compute_output_summary_us",
        "Time requests spent in handing out the batch's outputs",
        lambda s: s.compute_output,
    ),
    (
        "nv_cache_hit_summary_per_model",
        "Time of lookups that found an answer",
        lambda s: s.cache_hit,
    ),
    (
        "nv_cache_miss_summary_per_model",
        "Time of lookups that found none and of insertions",
        lambda s: s.cache_miss,
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

# Beside Triton's: what was computed though nobody waited for it any more.
_OWN_COUNTERS: Final[tuple[tuple[str, str, Reader], ...]] = (
    (
        "penstock_wasted_compute_seconds_total",
        "Time of executions spent on rows that nobody waited for any more when they had run",
        lambda s: s.wasted_ns / 1e9,
    ),
    (
        "penstock_wasted_rows_total",
        "Rows executed that nobody waited for any more: their caller gone, their deadline passed",
        lambda s: s.wasted_rows,
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

# What each family begins with; no sample begins so.
_HEAD: Final = re.compile(rb"(^# HELP .*\n# TYPE .*\n)", re.MULTILINE)


def _labels(statistics: VersionStatistics) -> dict[str, str]:
    tags = {f"_{name}": value for name, value in statistics.tags.items()}
    return {"model": statistics.model, "version": statistics.version} | tags


def _counters(
    table: Sequence[tuple[str, str, Reader]], versions: Sequence[VersionStatistics]
) -> Iterator[Metric]:
    for name, text, read in table:
        family = Metric(name.removesuffix("_total"), text, "counter")
        for version in versions:
            family.add_sample(name, _labels(version), read(version))
        yield family


def _gauge(name: str, text: str, read: Reader, versions: Sequence[VersionStatistics]) -> Metric:
    family = Metric(name, text, "gauge")
    for version in versions:
        family.add_sample(name, _labels(version), read(version))
    return family


def _add_histogram(
    family: Metric, labels: dict[str, str], histogram: Histogram, unit: float
) -> None:
    bounds = [*(f"{bound / unit:g}" for bound in histogram.bounds), "+Inf"]
    counts = list(accumulate(histogram.counts))
    for bound, count in zip(bounds, counts, strict=True):
        family.add_sample(f"{family.name}_bucket", labels | {"le": bound}, count)
    family.add_sample(f"{family.name}_count", labels, counts[-1])
    family.add_sample(f"{family.name}_sum", labels, histogram.sum / unit)


class _ModelMetrics(Collector):
    """The metric families of some versions' statistics, and of the response cache's."""

    def __init__(
        self,
        versions: Sequence[VersionStatistics],
        cache: CacheStatistics | None,
        unloaded: Sequence[str],
        config: MetricsConfig,
        objective: float,
    ) -> None:
        self._versions = versions
        self._cache = cache
        self._unloaded = unloaded
        self._config = config
        self._objective = objective

    def collect(self) -> Iterator[Metric]:
        yield from _counters(_COUNTERS, self._versions)
        if self._config.counter_latencies:
            yield from _counters(_LATENCY_COUNTERS, self._versions)
            caching = [version for version in self._versions if version.caches]
            yield from _counters(_CACHE_COUNTERS, caching) if caching else ()
        if self._cache:
            for name, text, read in _CACHE_GAUGES:
                yield GaugeMetricFamily(name, text, read(self._cache))
        yield self._failures()
        yield from _counters(_OWN_COUNTERS, self._versions)
        yield _gauge(
            "nv_inference_pending_request_count",
            "Requests that wait for execution",
            lambda version: version.pending,
            self._versions,
        )
        yield _gauge(
            "nv_model_load_duration_secs",
            "Time that the load took",
            lambda version: version.load_duration / 1e9,
            self._versions,
        )
        yield from self._failed_loads()
        yield self._load()
        yield from self._accelerations()
        yield from self._summaries()
        yield from self._first_response()
        yield from self._histograms()

    def _failed_loads(self) -> Iterator[Metric]:
        name = "penstock_model_load_failed"
        family = Metric(name, "1 for a model whose last load failed, whatever serves", "gauge")
        for model in self._unloaded:
            family.add_sample(name, {"model": model}, 1)
        if family.samples:
            yield family

    def _load(self) -> Metric:
        return _gauge(
            "penstock_load",
            "Predicted wait of a request that comes now, in latency objectives of its model",
            lambda version: (version.wait or 0) / (version.objective or self._objective),
            [version for version in self._versions if version.wait is not None],
        )

    def _accelerations(self) -> Iterator[Metric]:
        name = "penstock_accelerator_build"
        family = Metric(name, "1 for what became of the accelerator that is built aside", "gauge")
        for version in self._versions:
            for state in BuildState if version.acceleration else ():
                labels = _labels(version) | {"state": state.value}
                family.add_sample(name, labels, int(state is version.acceleration))
        if family.samples:
            yield family

    def _failures(self) -> Metric:
        name = "nv_inference_request_failure"
        family = Metric(name, "Failed inference requests by reason", "counter")
        for version in self._versions:
            for reason, count in version.failures.items():
                family.add_sample(name, _labels(version) | {"reason": reason.value}, count)
        return family

    def _summaries(self) -> Iterator[Metric]:
        for name, text, read in _SUMMARIES:
            family = Metric(name, text, "summary")
            for version in self._versions:
                if version.summaries and (summary := read(version.summaries)):
                    self._add_summary(family, version, version.summaries, summary)
            if family.samples:
                yield family

    def _add_summary(
        self, family: Metric, version: VersionStatistics, own: Summaries, summary: Summary
    ) -> None:
        labels, wanted = _labels(version), self._config.quantiles
        family.add_sample(f"{family.name}_count", labels, summary.count)
        family.add_sample(f"{family.name}_sum", labels, summary.sum)
        for quantile, value in zip(wanted, own.quantiles(summary, wanted), strict=True):
            family.add_sample(family.name, labels | {"quantile": f"{quantile:g}"}, value)

    def _first_response(self) -> Iterator[Metric]:
        name = "nv_inference_first_response_histogram_ms"
        family = Metric(name, "Time from arrival to the first response", "histogram")
        for version in self._versions:
            if version.first_response is not None:
                _add_histogram(family, _labels(version), version.first_response, 1)
        if family.samples:
            yield family

    def _histograms(self) -> Iterator[Metric]:
        for name, text, unit, read in _HISTOGRAMS:
            family = Metric(name, text, "histogram")
            for version in self._versions:
                _add_histogram(family, _labels(version), read(version), unit)
            yield family


class Exposition:
    """Renders what `/metrics` answers: the models' statistics and the process's own figures."""

    def __init__(self, settings: MetricsSettings | None = None) -> None:
        """What `settings` ask for, or by default."""
        settings = settings or MetricsSettings()
        self._config = settings.metrics
        self._objective = settings.load_objective_ms * 1e6
        # A registry of our own: the library's global one would be shared by every server and
        # test in the process.
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        if settings.allow_cpu_metrics:
            self._process.register(HostMetrics(interval=settings.metrics_interval_ms))
        found = gpu_metrics(settings.metrics_interval_ms) if settings.allow_gpu_metrics else None
        self._gpus = [found] if found else []

    def page(self, cache: CacheStatistics | None = None, unloaded: Iterable[str] = ()) -> "Page":
        """What is answered, so far of no version; `unloaded` are models' names."""
        whole = _ModelMetrics((), cache, tuple(unloaded), self._config, self._objective)
        return Page(self._of, b"".join(map(generate_latest, (whole, *self._gpus))), self._process)

    def _of(self, version: VersionStatistics) -> bytes:
        return generate_latest(_ModelMetrics((version,), None, (), self._config, self._objective))


class Page:
    """One answer to a scrape, made version by version, as there may be thousands of them.

    `of` renders one version, `whole` is what is told of all of them together, and `process` what
    is told of the process at the end.
    """

    def __init__(
        self, of: Callable[[VersionStatistics], bytes], whole: bytes, process: CollectorRegistry
    ) -> None:
        self._of = of
        self._process = process
        # The format wants all samples of a family behind one head.
        self._families: dict[bytes, list[bytes]] = {}
        self._add(whole)

    def add(self, version: VersionStatistics) -> None:
        """Tell of one more version; takes a good part of a millisecond."""
        self._add(self._of(version))

    def content(self) -> bytes:
        """The whole, in Prometheus' text format."""
        families = (piece for family in self._families.items() for piece in (family[0], *family[1]))
        return b"".join(families) + generate_latest(self._process)

    def _add(self, text: bytes) -> None:
        _, *parts = _HEAD.split(_TOTAL.sub(rb"\1 ", text))
        for head, samples in zip(parts[::2], parts[1::2], strict=True):
            self._families.setdefault(head, []).append(samples)
