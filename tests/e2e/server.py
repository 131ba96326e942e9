"""A real `penstock serve` in a process of its own, on free loopback ports."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
REPOSITORY: Final = ROOT / "model_repository"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0

# What the server prints once it is ready.
_LINES: Final = {
    "http": re.compile(r"^REST +http://(\S+)/v2 ", re.MULTILINE),
    "grpc": re.compile(r"^gRPC +(\S+)$", re.MULTILINE),
    "metrics": re.compile(r"^Metrics +http://(\S+)/metrics$", re.MULTILINE),
}


@dataclass(slots=True)
class Server:
    """A running server; the addresses are `host:port`, as tritonclient takes them."""

    process: "subprocess.Popen[str]"
    http: str = ""
    grpc: str = ""
    metrics: str = ""
    output: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What REST's paths follow."""
        return f"http://{self.http}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def command(*arguments: str, repository: Path = REPOSITORY) -> list[str]:
    """The command line of a server on free ports of the loopback address."""
    return [
        sys.executable,
        "-m",
        "penstock",
        "serve",
        f"--model-repository={repository}",
        *(f"--{protocol}-address=127.0.0.1" for protocol in ("http", "grpc", "metrics")),
        *(f"--{protocol}-port=0" for protocol in ("http", "grpc", "metrics")),
        *arguments,
    ]


@contextmanager
def penstock_server(
    *arguments: str,
    repository: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve `repository` until the block ends; the server is ready when the block begins."""
    process = subprocess.Popen(
        command(*arguments, repository=repository),
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process)
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_read_log, args=(process.stderr, server.log), daemon=True),
    ]
    killer = threading.Timer(START_SECONDS, process.kill)
    killer.start()
    readers[0].start()
    try:
        for line in process.stdout:
            server.output += line
            if line.startswith("curl "):
                break
        killer.cancel()
        if process.poll() is not None or "REST" not in server.output:
            raise RuntimeError(f"the server did not start: {''.join(server.log)}")
        for name, pattern in _LINES.items():
            match = pattern.search(server.output)
            setattr(server, name, match[1] if match else "")
        yield server
    finally:
        killer.cancel()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        readers[0].join()
        process.stdout.close()
        process.stderr.close()


def _read_log(stream: "Iterator[str]", lines: list[str]) -> None:
    lines.extend(stream)
