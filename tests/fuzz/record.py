"""What all runs of the fuzzer have found so far, in a file that each round adds to."""

import json
import platform
import sys
from collections.abc import Iterable
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from bench.machine import hardware
from tests.fuzz.fuzzer import Progress
from training.provenance import commit


class Record:
    """The file `path`, which need not exist; a run that was broken off loses its last round only.

    Several runs may add to one record at the same time, each with targets or seeds of its own.

    Of each target it says how many inputs were decoded, how many of them were accepted, at how
    many places the others were refused and how many lines of serving were reached (the most of
    any round), in how many seconds, and how many were crashes or hangs. Each round is told by its
    seed, the commit and the command; the same of all three decodes the same inputs again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def rounds(self) -> int:
        """How many there are."""
        return len(self._read()["rounds"])

    def add(self, seed: int, finished: Iterable[Progress]) -> None:
        """Add a round and write the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            document = self._read()
            _add(document, seed, finished)
            written = self._path.with_suffix(".new")
            written.write_text(json.dumps(document, indent=1) + "\n")
            written.replace(self._path)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"executions": 0, "crashes": 0, "targets": {}, "rounds": []}
        document: dict[str, Any] = json.loads(self._path.read_text())
        return document


def _add(document: dict[str, Any], seed: int, finished: Iterable[Progress]) -> None:
    targets = document["targets"]
    executions = 0
    for progress in finished:
        executions += progress.executions
        targets[progress.target] = _sum(targets.get(progress.target, {}), progress)
    for key in ("executions", "crashes"):
        document[key] = sum(totals[key] for totals in targets.values())
    document["rounds"].append(
        {
            "command": f"python -m tests.fuzz {' '.join(sys.argv[1:])}",
            "seed": seed,
            "executions": executions,
            "commit": commit("serving", "tests"),
            "hardware": f"{hardware()}, Python {platform.python_version()}",
        }
    )


def _sum(before: dict[str, Any], progress: Progress) -> dict[str, Any]:
    return {
        "executions": before.get("executions", 0) + progress.executions,
        "accepted": before.get("accepted", 0) + progress.accepted,
        "kinds_of_refusal": max(before.get("kinds_of_refusal", 0), progress.kinds),
        "lines_reached": max(before.get("lines_reached", 0), progress.lines),
        "seconds": round(before.get("seconds", 0.0) + progress.seconds, 1),
        "crashes": before.get("crashes", 0) + len(progress.crashes),
    }
