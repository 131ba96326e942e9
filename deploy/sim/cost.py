"""What a request takes of a replica's and of Envoy's processors, and of the wire between them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.machine import Unavailable, cpu_seconds
from bench.peers.base import ROOT
from deploy.sim.replicas import MODEL
from deploy.sim.scenarios import Stage

CONNECTIONS: Final = 32
ROUNDS: Final = 3
WAYS: Final = ("rest-binary", "rest-json", "grpc")


@dataclass(frozen=True, slots=True)
class Cost:
    """Per request: microseconds of processor time, and bytes on the wire of HTTP, headers included.

    `rate` is what all replicas together answered a second, beside their clients on one machine.
    """

    way: str
    rate: float
    replica_us: float
    envoy_us: float
    bytes_there: float
    bytes_back: float


def quietest(stage: Stage, seconds: float, folder: Path) -> list[Cost]:
    """What each way costs: of several rounds the one in which others disturbed least."""
    rounds = [[measure(stage, way, seconds, folder) for way in WAYS] for _ in range(ROUNDS)]
    return [min(each, key=lambda cost: cost.replica_us) for each in zip(*rounds, strict=True)]


def measure(stage: Stage, way: str, seconds: float, folder: Path) -> Cost:
    """Load all replicas through Envoy by `penstock bench`; Unavailable if something fails."""
    file = folder / f"{way}.json"
    url = f"grpc://{stage.envoy.grpc}" if way == "grpc" else f"http://{stage.envoy.rest}"
    command = [
        *(sys.executable, "-m", "penstock", "bench", url, MODEL, f"--protocol={way}"),
        *(f"--concurrency={CONNECTIONS}", f"--duration={seconds}", "--warm-up=1"),
        f"--json={file}",
    ]
    replicas = [replica.pid for replica in stage.replicas]
    before = [cpu_seconds(stage.envoy.pid), sum(map(cpu_seconds, replicas))]
    known = len(stage.envoy.entries())
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"penstock bench failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = [cpu_seconds(stage.envoy.pid), sum(map(cpu_seconds, replicas))]
    entries = stage.envoy.entries()[known:]
    rate = json.loads(file.read_text())["steps"][0]["throughput"]
    spent = [1e6 * (late - early) / len(entries) for early, late in zip(before, after, strict=True)]
    return Cost(
        way,
        round(rate, 1),
        round(spent[1], 1),
        round(spent[0], 1),
        round(_mean(entries, "bytes_to_replica"), 1),
        round(_mean(entries, "bytes_from_replica"), 1),
    )


def _mean(entries: Sequence[dict[str, Any]], name: str) -> float:
    return float(sum(entry[name] for entry in entries)) / len(entries)
