"""What --metrics-config and a configuration's metric_tags make of the metrics, as in Triton."""

import re
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests import adders
from tests.conformance.differences import METRICS, NEWER_METRICS
from tests.e2e.server import penstock_server
from tests.triton.server import installation, triton_server

TAGS: Final = 'metric_tags { key: "team" value: "a" }\n'
CACHE: Final = "response_cache { enable: true }\n"
ONE: Final = "instance_group { count: 1 kind: KIND_CPU }\n"
_FAMILY: Final = re.compile(r"^# TYPE (nv_\w+) (\w+)$", re.MULTILINE)
_SAMPLE: Final = re.compile(r"^(nv_\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
FLAGS: Final = (
    "--cache-config=local,size=1048576",
    "--metrics-config=summary_latencies=true",
    "--metrics-config=summary_quantiles=0.5:0.05,0.9:0.01",
    "--metrics-config=counter_latencies=false",
)


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What both servers tell, having answered the same."""
    repository = tmp_path_factory.mktemp("repository")
    adders.add(repository, "plain", 1, config=ONE)
    adders.add(repository, "cached", 1, config=ONE + CACHE + TAGS)
    caches = f"--cache-directory={installation().triton / 'caches'}"
    with (
        triton_server(repository, caches, *FLAGS) as triton,
        penstock_server("--passport-policy=off", *FLAGS, repository=repository) as ours,
    ):
        yield {"triton": asked(triton), "ours": asked(ours)}


def asked(server: Any) -> str:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    for model in ("plain", "cached", "cached"):
        answer = httpx.post(f"http://{server.http}/v2/models/{model}/infer", json=body)
        assert answer.status_code == 200
    return httpx.get(f"http://{server.metrics}/metrics").text


def series(scrape: str) -> dict[tuple[str, frozenset[str]], float]:
    return {
        (name, frozenset(labels.split(","))): float(value)
        for name, labels, value in _SAMPLE.findall(scrape)
        if name not in NEWER_METRICS
    }


def test_there_are_the_same_families(scrapes: dict[str, str]) -> None:
    theirs, ours = (dict(_FAMILY.findall(scrape)) for scrape in scrapes.values())
    assert {name: kind for name, kind in ours.items() if name not in NEWER_METRICS} == {
        name: kind for name, kind in theirs.items() if name not in METRICS
    }


def test_series_have_the_same_labels(scrapes: dict[str, str]) -> None:
    theirs, ours = map(series, scrapes.values())
    assert ours.keys() == theirs.keys()
    tagged = {'_team="a"', 'model="cached"', 'version="1"', 'quantile="0.9"'}
    assert ("nv_cache_hit_summary_per_model", frozenset(tagged)) in ours


def test_summaries_count_alike(scrapes: dict[str, str]) -> None:
    theirs, ours = (
        {key: value for key, value in series(scrape).items() if key[0].endswith("_count")}
        for scrape in scrapes.values()
    )
    summaries = [key for key in theirs if "summary" in key[0]]
    assert {key: ours[key] for key in summaries} == {key: theirs[key] for key in summaries}
    assert len(summaries) == 11
