"""The queries of the dashboard and of the rules, and a real Prometheus to run them."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from bench.peers.base import free_ports
from tests.e2e.server import ROOT

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "penstock.json"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yaml"
_ALERT: Final = re.compile(r"(?P<query>.+) (?P<comparison>[<>] [\d.]+)", re.DOTALL)
# What Grafana puts in place of its variables.
_VARIABLES: Final = {"$__rate_interval": "1m", "$job": ".*penstock.*", "$model": ".*"}
_CONFIG: Final = """\
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: penstock, static_configs: [{{targets: {targets}}}]}}]
"""


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, rows included."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def _shown() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, value in _VARIABLES.items():
                query = query.replace(variable, value)
            yield f"panel {panel['title']} {target['refId']}", query


def _ruled() -> Iterator[tuple[str, str]]:
    """What rules record, and what alerts compare with their bounds."""
    for rule in rules():
        if "record" in rule:
            yield f"record {rule['record']}", rule["expr"]
        else:
            alert = _ALERT.fullmatch(rule["expr"])
            assert alert, f"{rule['alert']} is not a query and a bound: {rule['expr']}"
            yield f"alert {rule['alert']}", alert["query"]


def queries() -> dict[str, str]:
    """Every query of the dashboard and the rules by where it is."""
    return dict((*_shown(), *_ruled()))


class Prometheus:
    """A running Prometheus."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def values(self, query: str) -> list[float]:
        """What a query gives now, numbers only; fails for a query that is wrong."""
        answer = self._client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
        return [value for value in values if value == value]


@contextmanager
def prometheus(program: str, folder: Path, *targets: str) -> Iterator[Prometheus]:
    """A Prometheus for the block that scrapes `targets`; whether it is ready is not waited for."""
    config = folder / "prometheus.yaml"
    config.write_text(_CONFIG.format(rules=RULES, targets=json.dumps(targets)))
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    client = httpx.Client(base_url=f"http://{address}", timeout=30, trust_env=False)
    with client, subprocess.Popen(command) as process:
        try:
            yield Prometheus(client)
        finally:
            process.terminate()
