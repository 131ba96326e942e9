"""A server of its own, on free ports, that serves one model in one way after the other."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final
from urllib.parse import quote

from google.protobuf import json_format

from serving.config import Proto, from_json

_LIVE: Final = re.compile(r"live: REST on \S+?:(\d+),")
_HOST: Final = "127.0.0.1"
# `penstock` with what follows the first argument, the process with which it ends.
_SERVE: Final = """\
import sys
from serving.orphans import end_with
end_with(int(sys.argv.pop(1)))
import penstock
penstock.main()
"""
_LOAD_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 60.0


class Failed(Exception):
    """The server did not start, or did not load what it was to load; the message says why."""


class BenchServer:
    """The server, with `model` loaded."""

    def __init__(self, port: int, model: str) -> None:
        self.host = _HOST
        self.port = port
        self._model = model

    def config(self) -> Proto:
        """The model's configuration, complete."""
        text = self._ask("GET", f"/v2/models/{quote(self._model)}/config")
        return from_json(text, f"the configuration of '{self._model}'")

    def load(self, config: Proto | None = None) -> None:
        """Serve the model by `config`; None: as its repository says. Failed if it does not load."""
        body: dict[str, Any] = {}
        if config is not None:
            text = json_format.MessageToJson(config, preserving_proto_field_name=True)
            body = {"parameters": {"config": text}}
        path = f"/v2/repository/models/{quote(self._model)}/load"
        self._ask("POST", path, json.dumps(body))

    def _ask(self, method: str, path: str, body: str | None = None) -> str:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_LOAD_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read().decode()
        except OSError as error:
            raise Failed(f"the server does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise Failed(_reason(content))
        return content


@contextmanager
def serving(repository: str, model: str) -> Iterator[BenchServer]:
    """A server with `model` loaded, for the block. Failed with its own words if it does not start.

    It is a process of its own, as it would be in use: whoever measures it takes none of its time
    but that of the processors.
    """
    command = [
        *(sys.executable, "-c", _SERVE, str(os.getpid()), "serve"),
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        # What is measured is what serves in the end.
        "--accelerator-build=load",
        *(f"--{name}-address={_HOST}" for name in ("http", "grpc", "metrics")),
        *(f"--{name}-port=0" for name in ("http", "grpc", "metrics")),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    assert process.stderr is not None
    try:
        server = BenchServer(_port(process.stderr), model)
        # What it logs from now on is not needed, and must not fill the pipe.
        with _drained(process.stderr):
            server.load()
            yield server
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # what was measured counts all the same
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def _port(log: IO[str]) -> int:
    said = []
    for line in log:
        said.append(line)
        if found := _LIVE.search(line):
            return int(found[1])
    raise Failed("the server did not start:\n" + "".join(said).rstrip())


@contextmanager
def _drained(log: IO[str]) -> Iterator[None]:
    reader = threading.Thread(target=lambda: [None for _ in log], daemon=True)
    reader.start()
    yield
    reader.join()


def _reason(content: str) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content.strip()
