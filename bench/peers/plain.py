"""Servers with a protocol of their own, one application around one model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.peers import environments
from bench.peers.base import Running, free_ports, launched

FOLDER: Final = Path(__file__).parent


@contextmanager
def serve_fastapi(repository: Path) -> Iterator[Running]:
    """FastAPI, pydantic and ONNX Runtime, as most people put them together."""
    with _serve(Path(sys.executable), "plain_app.py", repository) as running:
        yield running


@contextmanager
def serve_litserve(repository: Path) -> Iterator[Running]:
    """LitServe with batches."""
    python = environments.program("litserve")
    with _serve(python, "litserve_app.py", repository) as running:
        yield running


@contextmanager
def _serve(python: Path, app: str, repository: Path) -> Iterator[Running]:
    (port,) = free_ports(1)
    file = repository / "mnist" / "1" / "model.onnx"
    command = [str(python), str(FOLDER / app), str(file), str(port)]
    with (
        TemporaryDirectory(prefix="bench-plain-") as scratch,
        launched(command, {"http": port}, Path(scratch) / "log", "/health") as running,
    ):
        yield running
