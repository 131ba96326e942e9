"""Which kind of servable an opened version becomes: its configuration decides."""

import logging
import time

from serving.engine.backends.generation import GenerationSession
from serving.engine.batching.loop_time import LoopTime
from serving.engine.cache import ResponseCache
from serving.engine.cached import CachedVersion
from serving.engine.decoupled import decoupled
from serving.engine.ensemble import Ensemble
from serving.engine.generation.version import GeneratingVersion
from serving.engine.model import ModelVersion
from serving.engine.scheduling import schedule
from serving.engine.servable import Find, Opened, Servable
from serving.metrics_settings import MetricsConfig
from serving.statistics import Histogram
from serving.summaries import Summaries

logger = logging.getLogger("penstock.load")


def assemble(
    opened: Opened,
    default_max_queue: int,
    find: Find,
    cache: ResponseCache | None = None,
    loop_time: LoopTime | None = None,
    metrics: MetricsConfig | None = None,
) -> Servable:
    """The servable for `opened`; to be called on the event loop.

    `default_max_queue` bounds the queue where the configuration does not; `find` is how a version
    that is made of other models reaches them, `cache` the server's response cache, `loop_time`
    what may be executed on the loop, `metrics` what is counted beside the usual. LoadFailed if the
    other models are not loaded or do not fit together.
    """
    servable = _uncached(opened, default_max_queue, find, loop_time)
    _measure(servable, metrics or MetricsConfig())
    if not opened.config.caches_responses:
        return servable
    if cache is None:
        logger.warning(
            "%s version %s asks for a response cache and the server has none: nothing is cached; "
            "start it with --cache-config=local,size=BYTES",
            opened.config.name,
            opened.version,
        )
        return servable
    return CachedVersion(servable, cache)


def _uncached(
    opened: Opened, default_max_queue: int, find: Find, loop_time: LoopTime | None
) -> Servable:
    if opened.config.is_ensemble:
        return Ensemble(opened, find)
    if any(isinstance(session, GenerationSession) for session in opened.sessions):
        return GeneratingVersion(opened, default_max_queue)
    if opened.config.is_decoupled:
        return decoupled(opened, default_max_queue)
    return ModelVersion(opened, schedule(opened, default_max_queue), loop_time)


def _measure(servable: Servable, metrics: MetricsConfig) -> None:
    """Have counted what is counted only where somebody asks for it."""
    config, statistics = servable.opened.config, servable.statistics
    statistics.tags = config.metric_tags
    statistics.load_duration = servable.opened.load_duration
    if metrics.summary_latencies:
        statistics.summaries = Summaries(time.monotonic_ns, config.caches_responses)
    if metrics.histogram_latencies and config.is_decoupled:
        statistics.first_response = Histogram(config.first_response_bounds)
