"""Servers that are an application around one model, which their users write."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.peers import environments
from bench.peers.base import Running, free_ports, launched

FOLDER: Final = Path(__file__).parent
MODEL: Final = "mnist"


@contextmanager
def serve_fastapi(repository: Path) -> Iterator[Running]:
    """FastAPI, pydantic and ONNX Runtime, as most people put them together."""
    (port,) = free_ports(1)
    command = [sys.executable, str(FOLDER / "plain_app.py"), str(_file(repository)), str(port)]
    with _launched(command, {"http": port}, "/health") as running:
        yield running


@contextmanager
def serve_litserve(repository: Path) -> Iterator[Running]:
    """LitServe with batches."""
    (port,) = free_ports(1)
    command = [str(environments.program("litserve")), str(FOLDER / "litserve_app.py")]
    with _launched([*command, str(_file(repository)), str(port)], {"http": port}, "/health") as it:
        yield it


@contextmanager
def serve_bentoml(repository: Path) -> Iterator[Running]:
    """BentoML with adaptive batches."""
    (port,) = free_ports(1)
    command = [str(environments.program("bentoml", "bentoml")), "serve", "bentoml_app:Classifier"]
    command += [f"--port={port}", "--host=127.0.0.1", f"--working-dir={FOLDER}"]
    told = {"MODEL": str(_file(repository)), "BENTOML_DO_NOT_TRACK": "True"}
    with _launched(command, {"http": port}, "/readyz", told) as running:
        yield running


@contextmanager
def serve_mlserver(repository: Path) -> Iterator[Running]:
    """MLServer with adaptive batches."""
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    server: dict[str, object] = {"host": "127.0.0.1", "parallel_workers": 0}
    server |= {f"{protocol}_port": port for protocol, port in ports.items()}
    model: dict[str, object] = {"name": MODEL, "implementation": "mlserver_app.Classifier"}
    model |= {"max_batch_size": 32, "max_batch_time": 0.001}
    with TemporaryDirectory(prefix="bench-mlserver-") as scratch:
        Path(scratch, "settings.json").write_text(json.dumps(server))
        Path(scratch, "model-settings.json").write_text(json.dumps(model))
        command = [str(environments.program("mlserver", "mlserver")), "start", scratch]
        told = {"MODEL": str(_file(repository)), "PYTHONPATH": str(FOLDER)}
        with _launched(command, ports, f"/v2/models/{MODEL}/ready", told) as running:
            yield running


def _file(repository: Path) -> Path:
    return repository / MODEL / "1" / "model.onnx"


@contextmanager
def _launched(
    command: Sequence[str],
    ports: Mapping[str, int],
    health: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """The server, with the programs of its own environment first on the PATH."""
    path = os.pathsep.join((str(Path(command[0]).parent), os.environ["PATH"]))
    told = {"PATH": path, **(environment or {})}
    with (
        TemporaryDirectory(prefix="bench-plain-") as scratch,
        launched(command, ports, Path(scratch) / "log", health, told) as running,
    ):
        yield running
