"""FastAPI, pydantic and ONNX Runtime, as most people put them together."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.peers.base import Running, free_ports, launched

APP: Final = Path(__file__).parent / "plain_app.py"


@contextmanager
def serve(repository: Path, model: str) -> Iterator[Running]:
    """The application on a free port, ready."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    file = repository / model / "1" / "model.onnx"
    with TemporaryDirectory(prefix="bench-plain-") as scratch:
        command = [sys.executable, str(APP), str(file), str(port)]
        with launched(command, Path(scratch) / "log", f"http://{address}/health") as process:
            yield Running(process.pid, address)
