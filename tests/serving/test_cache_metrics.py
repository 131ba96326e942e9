"""The cache's series stand beside those of the models whose configuration asks for it."""

from prometheus_client.parser import text_string_to_metric_families

from serving.statistics import CacheStatistics, VersionStatistics
from tests.serving.exposed import exposed

CACHE = (
    "nv_cache_num_hits_per_model",
    "nv_cache_num_misses_per_model",
    "nv_cache_hit_duration_per_model",
    "nv_cache_miss_duration_per_model",
)


def samples(*versions: VersionStatistics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Of the cache's families, in microseconds where they are times."""
    text = exposed(versions)
    # The reader gives every counter the ending that OpenMetrics asks for.
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
        if family.name.startswith("nv_cache")
    }


def test_hits_and_misses_are_told_by_model_and_version() -> None:
    version = VersionStatistics("m", "3", caches=True)
    for _ in range(3):
        version.record_cache_hit(2_000)
    version.cache_miss.add(9_000)

    labels = {"model": "m", "version": "3"}
    assert samples(version) == {
        name: [(labels, value)] for name, value in zip(CACHE, (3, 1, 6, 9), strict=True)
    }


def test_series_exist_from_the_start_and_for_nobody_else() -> None:
    others = VersionStatistics("other", "1"), VersionStatistics("m", "1", caches=True)

    found = samples(*others)

    assert list(found) == list(CACHE)
    assert all(values == [({"model": "m", "version": "1"}, 0)] for values in found.values())


def test_without_such_a_model_nothing_is_said_of_the_cache() -> None:
    assert samples(VersionStatistics("m", "1")) == {}
    assert "nv_cache" not in exposed()


def test_the_cache_as_a_whole_is_told_by_the_names_of_tritons_gauges() -> None:
    cache = CacheStatistics(
        size=800,
        used=200,
        entries=2,
        hits=5,
        misses=3,
        evictions=1,
        lookup_ns=9_000,
        insertion_ns=4_000,
    )

    text = exposed(cache=cache)

    found = {
        family.name: (family.type, family.samples[0].value)
        for family in text_string_to_metric_families(text)
        if family.name.startswith("nv_cache")
    }
    assert found == {
        "nv_cache_util": ("gauge", 0.25),
        "nv_cache_num_entries": ("gauge", 2),
        "nv_cache_num_hits": ("gauge", 5),
        "nv_cache_num_misses": ("gauge", 3),
        "nv_cache_num_lookups": ("gauge", 8),
        "nv_cache_num_evictions": ("gauge", 1),
        "nv_cache_lookup_duration": ("gauge", 9),
        "nv_cache_insertion_duration": ("gauge", 4),
    }
