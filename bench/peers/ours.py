"""Penstock itself, with everything that it switches on by default."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.peers.base import ROOT, Running, free_ports, launched

MANY: Final = 100
READY: Final = "/v2/health/ready"


@contextmanager
def serve(
    repository: Path, *flags: str, checkout: Path = ROOT, ready: str = READY
) -> Iterator[Running]:
    """`penstock serve` of a checkout on free ports; `flags` go to it as they are.

    `ready` is the path that answers 200 once there is nothing more to wait for.
    """
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    command = [sys.executable, "-m", "penstock", "serve", f"--model-repository={repository}"]
    for protocol, port in ports.items():
        command += [f"--{protocol}-address=127.0.0.1", f"--{protocol}-port={port}"]
    with (
        TemporaryDirectory(prefix="bench-penstock-") as scratch,
        launched(
            *([*command, *flags], ports, Path(scratch) / "log", ready),
            folder=checkout,
        ) as running,
    ):
        yield running


def serve_sharing(repository: Path, checkout: Path = ROOT) -> AbstractContextManager[Running]:
    """The same with shared memory allowed, which has to be asked for."""
    return serve(repository, "--allow-client-shm=true", checkout=checkout)


def serve_mapping(repository: Path) -> AbstractContextManager[Running]:
    """The same with shared memory mapped, for clients that are trusted."""
    return serve(repository, "--allow-client-shm=true", "--map-client-shm=true")


@contextmanager
def serve_many(repository: Path) -> Iterator[Running]:
    """The same with a hundred models loaded: those of the repository, and copies of `mnist`."""
    with TemporaryDirectory(prefix="bench-many-") as scratch:
        many = Path(scratch) / "models"
        shutil.copytree(repository, many)
        for number in range(MANY - len(list(many.iterdir()))):
            shutil.copytree(repository / "mnist", many / f"copy-{number}")
        with serve(many) as running:
            yield running
