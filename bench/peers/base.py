"""What every server in the comparison has in common: how it is started and where it listens."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from bench.cases import Request
from bench.machine import Unavailable
from bench.models import Array

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 100.0
STOP_SECONDS: Final = 15.0
# Else ONNX Runtime records how it is used.
QUIET: Final = {"ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready; its process and where it listens, as `host:port`."""

    pid: int
    http: str
    grpc: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be measured. `serve` is given the repository and the model's name."""

    name: str
    title: str
    serve: Callable[[Path, str], AbstractContextManager[Running]]
    request: Callable[[str, str, Array], Request]
    kinds: tuple[str, ...]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def launched(
    command: Sequence[str], log: Path, ready: str, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server's process, once the URL `ready` answers 200, until the block ends.

    Raises Unavailable with what it wrote if it ends before or takes too long.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | QUIET | dict(environment or {}),
        )
    try:
        _wait(process, ready, log)
        yield process
    finally:
        _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(url):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            reason = "ended" if ended else f"was not ready within {START_SECONDS:.0f} s"
            raise Unavailable(f"the server {reason}; its log:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a GET answers 200."""
    try:
        with urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
