"""Penstock itself, with everything that it switches on by default."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers.base import Running, free_ports, launched


@contextmanager
def serve(repository: Path, model: str, *flags: str) -> Iterator[Running]:
    """`penstock serve` on free ports, ready."""
    http, grpc, metrics = free_ports(3)
    command = [sys.executable, "-m", "penstock", "serve", f"--model-repository={repository}"]
    for protocol, port in (("http", http), ("grpc", grpc), ("metrics", metrics)):
        command += [f"--{protocol}-address=127.0.0.1", f"--{protocol}-port={port}"]
    address = f"127.0.0.1:{http}"
    with TemporaryDirectory(prefix="bench-penstock-") as scratch:
        log = Path(scratch) / "log"
        ready = f"http://{address}/v2/health/ready"
        with launched([*command, *flags], log, ready) as process:
            yield Running(process.pid, address, f"127.0.0.1:{grpc}")
