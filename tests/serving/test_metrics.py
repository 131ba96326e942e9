"""What `/metrics` tells, as its settings have it; Triton's dashboards find their series."""

import re
from typing import Final

import pytest

from serving.metrics_settings import MetricsSettings
from serving.statistics import BuildState, Histogram, VersionStatistics
from serving.summaries import Summaries
from serving.types import Timing
from tests.serving.exposed import exposed

# The queries of the dashboards that come with Triton (deploy/k8s-onprem and deploy/aws of its
# server), those of metrics that it no longer has aside.
DASHBOARDS: Final = (
    "count(count(nv_inference_count) by (instance))",
    "sum by (pod) (rate(nv_inference_count[1m])) / ignoring(pod) group_left "
    "sum (rate(nv_inference_count[1m]))",
    "sum(nv_inference_request_success) by (pod)",
    "sum(nv_inference_request_failure) by (pod)",
    "sum(rate(nv_inference_compute_infer_duration_us[30s])) by (model) / 1000",
    "avg(rate(nv_inference_queue_duration_us[30s])/(1+rate(nv_inference_request_success[30s]))) "
    "by (pod)",
    "rate(nv_inference_queue_duration_us[30s]) / rate(nv_inference_count[30s]) / 1000",
)
# What Prometheus itself adds to each series.
OF_THE_SCRAPE: Final = {"instance", "pod"}
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


def scrape(
    *versions: VersionStatistics, config: tuple[str, ...] = (), **settings: bool
) -> dict[tuple[str, str], float]:
    """Each sample by its name and labels."""
    text = exposed(versions, settings=MetricsSettings(metrics_config=config, **settings))
    return {(name, labels): float(value) for name, labels, value in _SAMPLE.findall(text)}


def names(samples: dict[tuple[str, str], float]) -> set[str]:
    return {name for name, _ in samples}


def answered(**changes: object) -> VersionStatistics:
    """A version that has answered one request."""
    version = VersionStatistics("m", "1")
    for name, value in changes.items():
        setattr(version, name, value)
    version.record_success(2, 9_000_000, Timing(1_000_000, 2_000_000, 3_000_000, 4_000_000, 2))
    return version


def test_a_model_whose_load_failed_has_a_series_and_others_have_none() -> None:
    text = exposed([answered()], unloaded=["b", "c"])
    found = [line for line in text.splitlines() if line.startswith("penstock_model_load_failed")]
    assert found == [f'penstock_model_load_failed{{model="{name}"}} 1.0' for name in "bc"]
    assert "penstock_model_load_failed" not in exposed([answered()])


@pytest.mark.parametrize("query", DASHBOARDS)
def test_a_query_of_tritons_dashboards_finds_its_series(query: str) -> None:
    samples = scrape(answered())
    for name in re.findall(r"nv_\w+", query):
        assert name in names(samples)
    labels = {label for name, text in samples for label in re.findall(r"(\w+)=", text)}
    for wanted in re.findall(r"(?:by|ignoring) ?\((\w+)\)", query):
        assert wanted in labels | OF_THE_SCRAPE


def test_durations_are_no_counters_where_nobody_wants_them() -> None:
    caching = answered(caches=True)
    without = names(scrape(caching, config=("counter_latencies=false",)))
    left_out = {name for name in names(scrape(caching)) - without if name.startswith("nv_")}
    assert left_out == {
        *(f"nv_inference_{phase}_duration_us" for phase in ("request", "queue")),
        *(f"nv_inference_compute_{phase}_duration_us" for phase in ("input", "infer", "output")),
        "nv_cache_num_hits_per_model",
        "nv_cache_num_misses_per_model",
        "nv_cache_hit_duration_per_model",
        "nv_cache_miss_duration_per_model",
    }
    # What has come of the requests is counted all the same; Triton forgets it.
    samples = scrape(caching, config=("counter_latencies=false",))
    assert samples["nv_inference_request_success", 'model="m",version="1"'] == 1


def test_summaries_tell_the_wanted_quantiles() -> None:
    version = answered(summaries=Summaries(lambda: 0, caches=False))
    samples = scrape(version, config=("summary_quantiles=0.5:0.05,0.999:0.001",))
    found = {
        labels: value
        for (name, labels), value in samples.items()
        if name == "nv_inference_queue_summary_us"
    }
    assert found == {
        'model="m",quantile="0.5",version="1"': pytest.approx(1000, rel=0.005),
        'model="m",quantile="0.999",version="1"': pytest.approx(1000, rel=0.005),
    }
    assert samples["nv_inference_queue_summary_us_count", 'model="m",version="1"'] == 1
    assert samples["nv_inference_queue_summary_us_sum", 'model="m",version="1"'] == 1000


def test_there_are_no_summaries_where_nobody_asked_for_them() -> None:
    assert not any("summary" in name for name in names(scrape(answered())))


def test_the_first_response_is_counted_in_the_buckets_that_are_there() -> None:
    version = VersionStatistics("m", "1", first_response=Histogram((100.0, 500.0)))
    version.record_first_response(100_900_000)
    samples = scrape(version)
    name = "nv_inference_first_response_histogram_ms"
    assert samples[f"{name}_bucket", 'le="100",model="m",version="1"'] == 1
    assert samples[f"{name}_sum", 'model="m",version="1"'] == 100
    assert not any(name in other for other in names(scrape(answered())))


def test_how_long_the_load_took_is_told_in_seconds() -> None:
    samples = scrape(VersionStatistics("m", "1", load_duration=1_500_000_000))
    assert samples["nv_model_load_duration_secs", 'model="m",version="1"'] == 1.5


def test_what_became_of_an_accelerator_is_told_of_versions_that_have_one_built_aside() -> None:
    samples = scrape(VersionStatistics("m", "1", acceleration=BuildState.REFUSED))
    found = {
        labels: value
        for (name, labels), value in samples.items()
        if name == "penstock_accelerator_build"
    }
    assert found == {
        'model="m",state="building",version="1"': 0,
        'model="m",state="in_use",version="1"': 0,
        'model="m",state="refused",version="1"': 1,
    }
    assert "penstock_accelerator_build" not in names(scrape(answered()))


def test_a_models_tags_are_labels_of_all_that_is_told_of_it() -> None:
    version = answered(tags={"team": "a"}, summaries=Summaries(lambda: 0, caches=False))
    labels = [text for (name, text) in scrape(version) if 'model="m"' in text]
    assert labels
    assert all('_team="a"' in text for text in labels)


def test_the_host_is_told_of_unless_it_is_not_wished() -> None:
    assert "nv_cpu_utilization" in names(scrape())
    assert not any(name.startswith("nv_cpu") for name in names(scrape(allow_cpu_metrics=False)))
