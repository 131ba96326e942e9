"""The load generator: wrk in a process of its own, pinned beside the servers."""

import http.client
import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from bench.cases import Answer, Request
from bench.machine import Unavailable, pinned
from bench.models import Array

SCRIPT: Final = Path(__file__).parent / "load.lua"
TOOLS: Final = {"wrk": "apt-get install wrk", "h2load": "apt-get install nghttp2-client"}
TOLERANCE: Final = 1e-4  # of a probability
PATIENCE: Final = 30.0  # seconds for one answer


class Wrong(Exception):
    """A server answered something else than the raw runtime."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the load generator saw in one window; latencies in seconds."""

    seconds: float
    requests: int
    p50: float
    p99: float
    errors: int
    processor: float  # seconds that the load generator itself computed


def tool(name: str) -> str:
    """The path of a load generator; Unavailable says how to get it."""
    found = shutil.which(name)
    if not found:
        raise Unavailable(f"{name} is not on the PATH: {TOOLS[name]}")
    return found


def check(address: str, request: Request, expected: Array) -> None:
    """Send one request; Wrong unless the answer is what the raw runtime says."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(headers, response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise Wrong(f"{request.path} answers {response.status}: {answer.body[:500]!r}")
    read = request.read(answer)
    if read.shape != expected.shape or not np.allclose(read, expected, atol=TOLERANCE):
        raise Wrong(f"{request.path} answers {read}, the raw runtime {expected}")


def send(address: str, request: Request, connections: int, seconds: int, core: int) -> Sent:
    """Ask as fast as answers come on so many connections, from that core."""
    before = _processor()
    with TemporaryDirectory(prefix="bench-load-") as scratch:
        folder = Path(scratch)
        (folder / "body").write_bytes(request.body)
        headers = "".join(f"{name}: {value}\n" for name, value in request.headers.items())
        (folder / "headers").write_text(headers)
        files = {f"BENCH_{name.upper()}": str(folder / name) for name in ("body", "headers")}
        report = folder / "report"
        command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        command += [f"--timeout={PATIENCE:.0f}s", f"-s{SCRIPT}", f"http://{address}{request.path}"]
        with pinned(core):
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                env=os.environ | files | {"BENCH_REPORT": str(report)},
            )
        told = json.loads(report.read_text())
    return Sent(
        seconds=told["microseconds"] / 1e6,
        requests=told["requests"] - told["refused"],
        p50=told["p50"] / 1e6,
        p99=told["p99"] / 1e6,
        errors=told["refused"] + told["broken"],
        processor=_processor() - before,
    )


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
