"""What the load generators have in common; each is a program of its own, pinned to its cores."""

import os
import resource
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.machine import Unavailable, pinned
from bench.models import Array

TOOLS: Final = {"wrk": "apt-get install wrk", "h2load": "apt-get install nghttp2-client"}
TOLERANCE: Final = 1e-4  # of a value
PATIENCE: Final = 30.0  # seconds for one answer


class Wrong(Exception):
    """A server answered something else than the raw runtime."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a load generator saw in one window; times in seconds.

    Latencies are those of the answers that came, each counted once.
    """

    seconds: float
    requests: int
    p50: float
    p99: float
    errors: int
    processor: float  # that the load generator itself computed


def tool(name: str) -> str:
    """The path of a load generator; Unavailable says how to get it."""
    found = shutil.which(name)
    if not found:
        raise Unavailable(f"{name} is not on the PATH: {TOOLS[name]}")
    return found


def compare(found: Array, expected: Array, who: str) -> None:
    """Wrong unless both are the same, but for rounding."""
    if found.shape != expected.shape:
        raise Wrong(f"{who} answers the shape {found.shape}, the raw runtime {expected.shape}")
    if not np.allclose(found, expected, atol=TOLERANCE):
        raise Wrong(f"{who} answers {found}, the raw runtime {expected}")


def execute(
    command: Sequence[str], cores: Collection[int], environment: Mapping[str, str] | None = None
) -> tuple[str, float]:
    """Run a program on these cores; what it printed, and the seconds that it computed.

    Raises Unavailable with its words if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pinned(*cores):
        told = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=os.environ | dict(environment or {}),
            check=False,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if told.returncode:
        raise Unavailable(f"{command[0]} failed ({told.returncode}): {told.stdout}{told.stderr}")
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return told.stdout, computed
