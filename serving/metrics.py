"""Prometheus text from the statistics: Triton's names for its dashboards, histograms of our own.

The counters live in `serving.statistics`; they are turned into metrics when somebody scrapes, so
that a request pays for plain additions only.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from serving.gpu_metrics import gpu_metrics
from serving.host_metrics import HostMetrics
from serving.metric_text import Labels, head, histogram_lines, number
from serving.metrics_settings import MetricsConfig, MetricsSettings, Quantiles
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

_GAUGES: Final[tuple[tuple[str, str, Reader], ...]] = (
    (
        "nv_inference_pending_request_count",
        "Requests that wait for execution",
        lambda s: s.pending,
    ),
    (
        "nv_model_load_duration_secs",
        "Time that the load took",
        lambda s: s.load_duration / 1e9,
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

# The samples of one version in a family of that name, one a line.
Lines: TypeAlias = Callable[[str, VersionStatistics, Labels], Iterable[str]]


class _Family(NamedTuple):
    """A metric of model versions; one that `is_optional` is left out where it has no samples."""

    name: str
    text: str
    kind: str
    lines: Lines
    is_optional: bool = False


def _families(config: MetricsConfig, objective: float) -> Iterator[_Family]:
    """What is told of versions; `objective` is the wait that is a load of 1, in nanoseconds."""
    yield from _values("counter", _COUNTERS)
    if config.counter_latencies:
        yield from _values("counter", _LATENCY_COUNTERS)
        for name, text, read in _CACHE_COUNTERS:
            yield _Family(name, text, "counter", partial(_cache_counter, read), is_optional=True)
    yield _Family(
        "nv_inference_request_failure", "Failed inference requests by reason", "counter", _failures
    )
    yield from _values("counter", _OWN_COUNTERS)
    yield from _values("gauge", _GAUGES)
    yield _Family(
        "penstock_load",
        "Predicted wait of a request that comes now, in latency objectives of its model",
        "gauge",
        partial(_load, objective),
    )
    yield _Family(
        "penstock_accelerator_build",
        "1 for what became of the accelerator that is built aside",
        "gauge",
        _acceleration,
        is_optional=True,
    )
    for name, text, find in _SUMMARIES:
        lines = partial(_summary, find, config.quantiles)
        yield _Family(name, text, "summary", lines, is_optional=True)
    yield _Family(
        "nv_inference_first_response_histogram_ms",
        "Time from arrival to the first response",
        "histogram",
        _first_response,
        is_optional=True,
    )
    for name, text, unit, histogram in _HISTOGRAMS:
        yield _Family(name, text, "histogram", partial(_histogram, histogram, unit))


def _values(kind: str, table: Iterable[tuple[str, str, Reader]]) -> Iterator[_Family]:
    for name, text, read in table:
        yield _Family(name, text, kind, partial(_value, read))


def _value(read: Reader, name: str, version: VersionStatistics, labels: Labels) -> Iterator[str]:
    yield f"{name}{labels.text} {number(read(version))}\n"


def _cache_counter(
    read: Reader, name: str, version: VersionStatistics, labels: Labels
) -> Iterator[str]:
    if version.caches:
        yield from _value(read, name, version, labels)


def _failures(name: str, version: VersionStatistics, labels: Labels) -> Iterator[str]:
    before, behind = labels.around("reason")
    for reason, count in version.failures.items():
        yield f"{name}{before}{reason.value}{behind} {number(count)}\n"


def _load(objective: float, name: str, version: VersionStatistics, labels: Labels) -> Iterator[str]:
    if version.wait is not None:
        load = version.wait / (version.objective or objective)
        yield f"{name}{labels.text} {number(load)}\n"


def _acceleration(name: str, version: VersionStatistics, labels: Labels) -> Iterator[str]:
    before, behind = labels.around("state")
    for state in BuildState if version.acceleration else ():
        yield f"{name}{before}{state.value}{behind} {number(state is version.acceleration)}\n"


def _summary(
    find: Callable[[Summaries], Summary | None],
    wanted: Quantiles,
    name: str,
    version: VersionStatistics,
    labels: Labels,
) -> Iterator[str]:
    own = version.summaries
    summary = find(own) if own else None
    if own is None or summary is None:
        return
    yield f"{name}_count{labels.text} {number(summary.count)}\n"
    yield f"{name}_sum{labels.text} {number(summary.sum)}\n"
    before, behind = labels.around("quantile")
    for quantile, value in zip(wanted, own.quantiles(summary, wanted), strict=True):
        yield f"{name}{before}{quantile:g}{behind} {number(value)}\n"


def _first_response(name: str, version: VersionStatistics, labels: Labels) -> Iterable[str]:
    histogram = version.first_response
    return () if histogram is None else histogram_lines(name, labels, histogram, 1)


def _histogram(
    read: Callable[[VersionStatistics], Histogram],
    unit: float,
    name: str,
    version: VersionStatistics,
    labels: Labels,
) -> Iterable[str]:
    return histogram_lines(name, labels, read(version), unit)


def _whole(cache: CacheStatistics | None, unloaded: Iterable[str]) -> Iterator[str]:
    """What is told of no version."""
    if cache:
        for name, text, read in _CACHE_GAUGES:
            yield f"{head(name, text, 'gauge')}{name} {number(read(cache))}\n"
    name = "penstock_model_load_failed"
    failed = [f"{name}{Labels({'model': model}).text} {number(1)}\n" for model in unloaded]
    if failed:
        yield head(name, "1 for a model whose last load failed, whatever serves", "gauge")
        yield from failed


def _labels(version: VersionStatistics) -> Labels:
    tags = {f"_{name}": value for name, value in version.tags.items()}
    return Labels({"model": version.model, "version": version.version} | tags)


class Exposition:
    """Renders what `/metrics` answers: the models' statistics and the process's own figures."""

    def __init__(self, settings: MetricsSettings | None = None) -> None:
        """What `settings` ask for, or by default."""
        settings = settings or MetricsSettings()
        self._families = tuple(_families(settings.metrics, settings.load_objective_ms * 1e6))
        # A registry of our own: the library's global one would be shared by every server and
        # test in the process.
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        if settings.allow_cpu_metrics:
            self._process.register(HostMetrics(interval=settings.metrics_interval_ms))
        found = gpu_metrics(settings.metrics_interval_ms) if settings.allow_gpu_metrics else None
        if found:
            self._process.register(found)

    def page(self, cache: CacheStatistics | None = None, unloaded: Iterable[str] = ()) -> "Page":
        """What is answered, so far of no version; `unloaded` are models' names."""
        return Page(self._families, "".join(_whole(cache, unloaded)), self._process)


class Page:
    """One answer to a scrape, made version by version, as there may be thousands of them.

    `whole` is what is told of all of them together, and `process` what is told of the process at
    the end.
    """

    def __init__(self, families: Iterable[_Family], whole: str, process: CollectorRegistry) -> None:
        self._whole = whole
        self._process = process
        # The format wants all samples of a family behind one head.
        self._families: list[tuple[_Family, list[bytes]]] = [(each, []) for each in families]

    def add(self, version: VersionStatistics) -> None:
        """Tell of one more version; takes about a tenth of a millisecond."""
        labels = _labels(version)
        for family, samples in self._families:
            if lines := "".join(family.lines(family.name, version, labels)):
                samples.append(lines.encode())

    def content(self) -> bytes:
        """The whole, in Prometheus' text format."""
        process = _TOTAL.sub(rb"\1 ", generate_latest(self._process))
        return b"".join((*self._pieces(), self._whole.encode(), process))

    def _pieces(self) -> Iterator[bytes]:
        for family, samples in self._families:
            if samples or not family.is_optional:
                yield head(family.name, family.text, family.kind).encode()
                yield from samples
