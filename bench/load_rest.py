"""Load over REST, by wrk."""

import http.client
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.cases import Answer, Request
from bench.load import PATIENCE, Sent, Wrong, compare, execute, tool
from bench.models import Array

SCRIPT: Final = Path(__file__).parent / "load.lua"
_NONE: Final[Mapping[str, str]] = {}


def check(address: str, request: Request, expected: Array) -> None:
    """Send one request; Wrong unless the answer is what the raw runtime says."""
    answer = post(address, request.path, request.body, request.headers)
    compare(request.read(answer), expected, request.path)


def post(address: str, path: str, body: bytes, headers: Mapping[str, str] = _NONE) -> Answer:
    """What a POST is answered with; Wrong unless its status is 200."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(told, response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise Wrong(f"{path} answers {response.status}: {answer.body[:500]!r}")
    return answer


def send(
    address: str, request: Request, connections: int, seconds: int, cores: Collection[int]
) -> Sent:
    """Ask as fast as answers come on so many connections, from these cores, by a thread each."""
    with TemporaryDirectory(prefix="bench-wrk-") as scratch:
        folder = Path(scratch)
        (folder / "body").write_bytes(request.body)
        headers = "".join(f"{name}: {value}\n" for name, value in request.headers.items())
        (folder / "headers").write_text(headers)
        files = {
            f"BENCH_{name.upper()}": str(folder / name) for name in ("body", "headers", "report")
        }
        command = [tool("wrk"), f"-t{len(cores)}", f"-c{connections}", f"-d{seconds}s"]
        command += ["--latency", f"--timeout={PATIENCE:.0f}s", f"-s{SCRIPT}"]
        command += [f"http://{address}{request.path}"]
        _, computed = execute(command, cores, files)
        told = json.loads((folder / "report").read_text())
    interval = told["microseconds"] // max(told["requests"] // connections, 1)
    counts = uncorrected(dict(map(tuple, told["latencies"])), interval)
    return Sent(
        seconds=told["microseconds"] / 1e6,
        requests=told["requests"] - told["refused"],
        p50=percentile(counts, 0.5) / 1e6,
        p99=percentile(counts, 0.99) / 1e6,
        errors=told["refused"] + told["broken"],
        processor=computed,
    )


def uncorrected(counts: dict[int, int], interval: int) -> dict[int, int]:
    """How often each latency was measured, from what wrk reports.

    wrk corrects for coordinated omission: to each latency of at least twice the mean interval of
    a connection it adds those that requests sent meanwhile would have had: the same less one
    interval, less two, and so on. In a closed loop nobody sent these. The longest ones are as they
    were measured, so that what each of them added can be taken back, from the longest down.
    """
    measured = dict(counts)
    for latency in sorted(counts, reverse=True):
        if latency < 2 * interval:
            break
        for added in range(latency - interval, interval, -interval):
            measured[added] -= measured[latency]
    return {latency: count for latency, count in sorted(measured.items()) if count}


def percentile(counts: dict[int, int], share: float) -> float:
    """The least latency that so large a share of the answers did not exceed; 0 without answers."""
    wanted = share * sum(counts.values())
    seen = 0
    for latency, count in sorted(counts.items()):
        seen += count
        if seen >= wanted:
            return latency
    return 0
