"""The whole of a page of metrics, as a scrape gets it."""

from collections.abc import Iterable

from serving.metrics import Exposition
from serving.metrics_settings import MetricsSettings
from serving.statistics import CacheStatistics, VersionStatistics


def exposed(
    versions: Iterable[VersionStatistics] = (),
    cache: CacheStatistics | None = None,
    unloaded: Iterable[str] = (),
    settings: MetricsSettings | None = None,
) -> str:
    """In Prometheus' text format; `unloaded` are models' names."""
    page = Exposition(settings or MetricsSettings()).page(cache, unloaded)
    for version in versions:
        page.add(version)
    return page.content().decode()
