"""What every server in the comparison has in common: how it is started and where it listens."""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import gettempdir
from typing import Final
from urllib.request import urlopen

from bench.cases import Request
from bench.machine import Unavailable, tree
from bench.models import Subject

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 100.0
STOP_SECONDS: Final = 15.0
_LEFT: Final = 2000  # characters of a log
# Below those that a system gives to connections, and to whoever asks for any: such a one may have
# gone to another process before the server for which it was found has begun to listen.
_PORTS: Final = range(20_000, 30_000)
_PORTS_LOOKED_AT: Final = Path(gettempdir()) / f"penstock-ports-looked-at-{os.getuid()}"
# Else ONNX Runtime records how it is used.
QUIET: Final = {"ORT_DISABLE_TELEMETRY": "1"}
# Empty is switched off: else each start of a Python server compiles all that it imports.
BYTECODE: Final = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready: its process, when that began, its log, and where it listens.

    The moment is of the monotonic clock, in seconds; the addresses are `host:port`.
    """

    process: "subprocess.Popen[bytes]"
    began: float
    log: Path
    http: str
    grpc: str = ""
    metrics: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def ending(self, seconds: float) -> str | None:
        """How its process has ended, or does within that time; None while it runs."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be measured: how it serves a repository, and how it is asked."""

    name: str
    title: str
    serve: Callable[[Path], AbstractContextManager[Running]]
    request: Callable[[str, Subject], Request]
    kinds: tuple[str, ...]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on, nor is given by the system.

    All processes of a user take turns, so that none finds what another has found just before.
    """
    found: list[int] = []
    counter = os.open(_PORTS_LOOKED_AT, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(counter, "r+") as file, ExitStack() as stack:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = int(file.read() or 0)
        for looked_at in range(before + 1, before + 1 + len(_PORTS)):
            port = _PORTS[looked_at % len(_PORTS)]
            with suppress(OSError):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
        else:
            raise Unavailable(f"only {len(found)} of the ports {_PORTS} are free")
        file.seek(0)
        file.write(str(looked_at))
    return found


@contextmanager
def launched(
    command: Sequence[str],
    ports: Mapping[str, int],
    log: Path,
    health: str,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Iterator[Running]:
    """A server, once it answers 200 to a GET of the path `health`, until the block ends.

    `ports` are those of http and, if it has them, of grpc and metrics. Raises Unavailable with
    what the server wrote if it ends before it is ready, or takes too long.
    """
    addresses = {protocol: f"127.0.0.1:{port}" for protocol, port in ports.items()}
    began = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | QUIET | BYTECODE | dict(environment or {}),
        )
    try:
        _wait(process, f"http://{addresses['http']}{health}", log)
        yield Running(process, began, log, **addresses)
    finally:
        _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(url):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            reason = "ended" if ended else f"was not ready within {START_SECONDS:.0f} s"
            raise Unavailable(f"the server {reason}; the end of its log:\n{last_words(log)}")
        time.sleep(0.02)


def last_words(log: Path) -> str:
    """The end of what a server wrote."""
    return log.read_text(errors="replace")[-_LEFT:]


def answers(url: str) -> bool:
    """Whether a GET answers 200."""
    try:
        with urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    family = tree(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Not every server ends its workers when it is told to end.
    for pid in family[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
