"""A real `penstock serve` in a process of its own, on free loopback ports."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tests.e2e.forked import Forked

ROOT: Final = Path(__file__).parents[2]
REPOSITORY: Final = ROOT / "model_repository"
# Several times what a busy machine needs; together less than a test may take, whose end tells less.
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 120.0

LIVE: Final = r"live: REST on (\S+), gRPC on (\S+), metrics on (\S+);"
# In a log for machines, one of its lines.
READY: Final = r'^Ctrl-C stops\.$|"message": "ready: '
STOPPING: Final = r"stopping: no longer ready"


class Server:
    """A running server; the addresses are `host:port`, as tritonclient takes them."""

    def __init__(self, process: Forked) -> None:
        self.process = process
        self.output: list[str] = []
        self.log: list[str] = []
        self._heard = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=streams)
            for streams in ((process.stdout, self.output), (process.stderr, self.log))
        ]
        self._reading = len(self._readers)
        for reader in self._readers:
            reader.start()
        self.http = self.grpc = self.metrics = ""

    @property
    def url(self) -> str:
        """What REST's paths follow."""
        return f"http://{self.http}"

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line of the output or the log that matches, once it is there."""
        with self._heard:
            self._heard.wait_for(lambda: self._find(pattern) or not self._reading, START_SECONDS)
            found = self._find(pattern)
        assert found, f"the server never said {pattern!r}; it said:\n{self}"
        return found

    def wait_live(self) -> None:
        """Until the ports are open; from then on the addresses are known."""
        self.http, self.grpc, self.metrics = self.wait_for(LIVE).groups()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once the process has ended and everything it said was read."""
        code = self.process.wait(STOP_SECONDS)
        for reader in self._readers:
            reader.join()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the exit code."""
        self.send(number)
        return self.wait()

    def close(self) -> None:
        """End the process, by force if it does not stop when told."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()

    def __str__(self) -> str:
        return "".join((*self.output, *self.log))

    def _find(self, pattern: str) -> re.Match[str] | None:
        matches = (re.search(pattern, line) for line in (*self.output, *self.log))
        return next(filter(None, matches), None)

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._heard:
                lines.append(line)
                self._heard.notify_all()
        with self._heard:
            self._reading -= 1
            self._heard.notify_all()


def command(*arguments: str, repositories: Iterable[Path] = (REPOSITORY,)) -> list[str]:
    """The command `penstock` of a server on free ports of the loopback address."""
    return [
        "serve",
        *(f"--model-repository={repository}" for repository in repositories),
        *(f"--{protocol}-address=127.0.0.1" for protocol in ("http", "grpc", "metrics")),
        *(f"--{protocol}-port=0" for protocol in ("http", "grpc", "metrics")),
        *arguments,
    ]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of a server, which are not the tests' own.

    But that one process does everything, also where the machine has processors for several.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return kept | {"PENSTOCK_WORKERS": "0"} | dict(changes or {})


@contextmanager
def starting_server(
    *arguments: str, repository: Path | None = REPOSITORY, processors: int | None = None
) -> Iterator[Server]:
    """A server for the block, live as it begins; whether it is ready is not waited for.

    Without a `repository`, what executes the models is somewhere else. With `processors` the
    machine seems to have so many, and the server has the processes that suit them.
    """
    repositories = (repository,) if repository else ()
    said = command(*arguments, repositories=repositories)
    env = environment()
    if processors:
        del env["PENSTOCK_WORKERS"]
    process = Forked(said, ROOT, env, processors)
    server = Server(process)
    try:
        server.wait_live()
        yield server
    finally:
        server.close()


@contextmanager
def penstock_server(
    *arguments: str, repository: Path | None = REPOSITORY, processors: int | None = None
) -> Iterator[Server]:
    """A server for the block, ready as it begins; see `starting_server`."""
    with starting_server(*arguments, repository=repository, processors=processors) as server:
        server.wait_for(READY)
        yield server


def failed_start(*arguments: str, repository: Path = REPOSITORY) -> str:
    """What a server says that does not start: exit code 1, a message, and no traceback."""
    process = Forked(command(*arguments, repositories=(repository,)), ROOT, environment())
    server = Server(process)
    try:
        code = server.wait()
    finally:
        server.close()
    said = "".join(server.log)
    assert code == 1, said
    assert "Traceback" not in said
    assert "Ctrl-C" not in "".join(server.output)
    return said
