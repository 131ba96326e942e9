"""Dashboard, rules and alerts: what they ask for is there, and they say what they should."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests import adders
from tests.deploy.monitoring import RULES, panels, prometheus, queries, rules
from tests.e2e.scrape import scrape
from tests.e2e.server import ROOT, Server, penstock_server

PROMETHEUS: Final = shutil.which("prometheus")
PROMTOOL: Final = shutil.which("promtool")
DATA_SECONDS: Final = 60.0

# Which need a GPU that this machine may not have.
NEED_A_GPU: Final = {
    "panel GPU utilisation A",
    "panel GPU memory A",
    "panel GPU power A",
    "panel GPU power B",
    "alert PenstockGpuMemoryFull",
    "alert PenstockAcceleratorRefused",
}
_METRIC: Final = re.compile(r"\b(?:nv|penstock|process)_\w+(?=[{\[)]|\s|$)")
_ENDINGS: Final = re.compile(r"_(?:bucket|sum|count)$")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One model that answers, and one that does not load."""
    repository = tmp_path_factory.mktemp("broken")
    broken = adders.add(repository, "broken", 1)
    (broken / "1" / "model.onnx").write_bytes(adders.BROKEN)
    flags = (
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        "--load-model=digits-mlp",
        "--load-model=broken",
        "--exit-on-error=false",
        "--strict-readiness=false",
    )
    with penstock_server(*flags) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(server: Server) -> Iterator[Server]:
    """In front of the other one, which plays a Triton server."""
    flags = ("--engine=triton", f"--triton-url={server.grpc}")
    with penstock_server(*flags, repository=None) as running:
        yield running


def ask(server: Server) -> None:
    """One request that is answered, and one that fails."""
    tensor = {"name": "features", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}
    url = f"{server.url}/v2/models/digits-mlp/infer"
    for inputs, status in (([tensor], 200), ([], 400)):
        answer = httpx.post(url, json={"inputs": inputs}, trust_env=False)
        assert answer.status_code == status


@pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)
@pytest.mark.parametrize("check", [["check", "rules"], ["test", "rules"]])
def test_the_rules_pass_prometheus_own_tests(check: list[str]) -> None:
    assert PROMTOOL is not None
    file = RULES if check[0] == "check" else RULES.with_name("rules.test.yaml")
    done = subprocess.run(
        [PROMTOOL, *check, file], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_the_page_makes_an_object_of_the_rules_for_the_operator() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^(\{ printf .*?\}) \| kubectl apply", page, re.MULTILINE | re.DOTALL)
    made = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)

    rule = yaml.safe_load(made.stdout)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    text = RULES.with_name("rules.test.yaml").read_text()
    firing = set(re.findall(r"alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:", text))

    assert firing == {rule["alert"] for rule in rules() if "alert" in rule}


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed: apt-get install it")
def test_every_query_returns_data_from_live_servers(
    server: Server, gateway: Server, tmp_path: Path
) -> None:
    assert PROMETHEUS is not None
    without_data = {name: query for name, query in queries().items() if name not in NEED_A_GPU}
    deadline = time.monotonic() + DATA_SECONDS
    with prometheus(PROMETHEUS, tmp_path, server.metrics, gateway.metrics) as running:
        # Rates want two scrapes with requests between them: ask on until all queries have data.
        while without_data and time.monotonic() < deadline:
            ask(server)
            ask(gateway)
            if running.is_ready():
                without_data = {n: q for n, q in without_data.items() if not running.values(q)}
        for name in NEED_A_GPU:
            running.values(queries()[name])  # which fails for a query that is wrong

    assert without_data == {}


def test_every_metric_that_is_asked_for_exists(server: Server, gateway: Server) -> None:
    ask(server)
    families = {*scrape(server).families, *scrape(gateway).families}
    known = {*families, *(f"{name}_total" for name in families)}
    for name, query in queries().items():
        if name not in NEED_A_GPU:
            # A name with colons is recorded by a rule, and asked for above.
            plain = re.sub(r"\w+:[\w:]+", "", query)
            for metric in _METRIC.findall(plain):
                assert {metric, _ENDINGS.sub("", metric)} & known, f"{name}: {metric}"


def test_every_recorded_name_that_is_asked_for_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for query in queries().values() for name in re.findall(r"\b\w+:\w+:\w+", query)}

    assert asked <= recorded


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        grid = panel["gridPos"]
        return {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }

    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert all(grid["x"] + grid["w"] <= 24 for grid in (panel["gridPos"] for panel in panels()))
    for one, other in combinations(panels(), 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
        assert (one["type"], one["title"]) != (other["type"], other["title"])


def test_every_panel_says_what_it_shows_and_asks_the_chosen_source() -> None:
    for panel in panels():
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert {t["datasource"]["uid"] for t in panel["targets"]} == {"${datasource}"}
