"""Environments of peers that need libraries of their own, in a cache folder.

PENSTOCK_PEERS names the folder; the default is `~/.cache/penstock/peers`.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.machine import Unavailable
from bench.peers.base import ROOT

VARIABLE: Final = "PENSTOCK_PEERS"


def folder(name: str) -> Path:
    """Where a peer's environment is, or would be."""
    default = Path.home() / ".cache" / "penstock" / "peers"
    return Path(os.environ.get(VARIABLE, default)) / name


def program(name: str, command: str = "python") -> Path:
    """A program of a peer's environment; Unavailable says how to build that."""
    found = folder(name) / "bin" / command
    if not found.exists():
        raise Unavailable(
            f"{found} does not exist: python -m bench.compare --install {name} builds it"
        )
    return found


def build(name: str) -> None:
    """Build a peer's environment by its list of requirements; Unavailable if that fails."""
    commands = [
        [sys.executable, "-m", "venv", str(folder(name))],
        [
            *(str(folder(name) / "bin" / "python"), "-m", "pip", "install", "--quiet"),
            *("--requirement", str(ROOT / "bench" / "peers" / f"requirements-{name}.txt")),
        ],
    ]
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            raise Unavailable(f"{name} cannot be installed here: {' '.join(command)} failed")
