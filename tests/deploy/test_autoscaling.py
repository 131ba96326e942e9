"""What the autoscalers ask Prometheus, asked of Prometheus: the busiest model of each replica."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.manifests import FOLDER, documents

PROMTOOL: Final = shutil.which("promtool")
# Two replicas and what they tell every 15 s, over two minutes; another namespace's is not ours.
SERIES: Final = {
    'penstock_load{namespace="penstock",pod="a",model="m"}': "0.8x8",
    'penstock_load{namespace="penstock",pod="a",model="idle"}': "0x8",
    'penstock_load{namespace="penstock",pod="b",model="m"}': "0.2x8",
    'penstock_load{namespace="other",pod="c",model="m"}': "9x8",
    'traefik_service_requests_total{service="penstock-penstock-8000@k8s",code="200"}': "0+30x8",
    'traefik_service_requests_total{service="penstock-penstock-8000@k8s",code="503"}': "0+15x8",
    'traefik_service_requests_total{service="other-other-http@k8s",code="200"}': "0+99x8",
}
NOTHING: Final = {'up{job="prometheus"}': "1x8"}


def triggers() -> dict[str, str]:
    """KEDA's queries by the names of their triggers."""
    [scaled] = documents(FOLDER / "overlays" / "autoscale-keda" / "autoscaler.yaml")
    found = scaled["spec"]["triggers"]
    return {one["name"]: one["metadata"]["query"] for one in found if one["type"] == "prometheus"}


def adapter_query() -> str:
    """The adapter's query as it asks it for the pods of a namespace."""
    [values] = documents(FOLDER / "overlays" / "autoscale-hpa" / "adapter-values.yaml")
    [rule] = values["rules"]["custom"]
    template: str = rule["metricsQuery"]
    matchers = 'namespace="penstock",pod=~"a|b"'
    return template.replace("<<.LabelMatchers>>", matchers).replace("<<.GroupBy>>", "pod")


def check(folder: Path, query: str, series: dict[str, str], expected: dict[str, float]) -> None:
    """Fails unless Prometheus answers the query so; `expected` by the answer's labels."""
    if PROMTOOL is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
    document: dict[str, Any] = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": text} for name, text in series.items()],
                "promql_expr_test": [{"expr": query, "eval_time": "2m", "exp_samples": samples}],
            }
        ],
    }
    file = folder / "queries.yaml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_adapter_tells_the_busiest_model_of_each_replica(tmp_path: Path) -> None:
    check(tmp_path, adapter_query(), SERIES, {'{pod="a"}': 0.8, '{pod="b"}': 0.2})


def test_keda_divides_the_sum_of_the_same_by_the_replicas(tmp_path: Path) -> None:
    check(tmp_path, triggers()["load"], SERIES, {"{}": 1.0})


def test_keda_counts_the_requests_that_nobody_answered_as_well(tmp_path: Path) -> None:
    check(tmp_path, triggers()["requests"], SERIES, {"{}": 3.0})


@pytest.mark.parametrize("name", ["load", "requests"])
def test_no_replica_is_an_answer_as_well(tmp_path: Path, name: str) -> None:
    check(tmp_path, triggers()[name], NOTHING, {"{}": 0.0})
