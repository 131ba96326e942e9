"""A run as it is kept: every window in JSON, the tables in markdown, with where it was measured."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from bench import goals, report
from bench.lineup import Absent
from bench.machine import hardware
from bench.peers import environments, triton
from bench.peers.base import ROOT
from bench.windows import Result

RESULTS: Final = ROOT / "bench" / "results"
# What the heads of tables say of a run.
FACTS: Final = ("date", "hardware", "load average", "commit", "python")
PACKAGES: Final = (
    *("onnxruntime", "onnxruntime-gpu", "numpy", "uvicorn", "uvloop", "httptools", "fastapi"),
    *("pydantic", "grpcio", "orjson", "nvidia-pytriton", "litserve", "mlserver", "bentoml"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run has found, and how it was asked."""

    options: Mapping[str, Any]
    results: Sequence[Result]
    starts: Mapping[str, Sequence[float]]
    absent: Sequence[Absent]

    def sheets(self) -> list[report.Sheet]:
        """The tables that have rows."""
        sheets = (
            report.of_cases(self.results),
            report.of_starts(self.starts),
            report.of_goals(goals.outcomes(self.results, self.starts)),
        )
        return [sheet for sheet in sheets if sheet.rows]


def save(run: Run, name: str, folder: Path) -> list[Path]:
    """Write NAME.json and NAME.md; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    where = provenance()
    files = [folder / f"{name}.json", folder / f"{name}.md"]
    content = {
        **where,
        "options": dict(run.options),
        "absent": {each.name: each.reason for each in run.absent},
        "cases": [
            {
                "kind": result.case.kind,
                "connections": result.case.connections,
                "dropped": result.dropped,
                "ended": {
                    server: {"how": ending.how, "words": ending.words}
                    for server, ending in result.ended.items()
                },
                "windows": {
                    server: [asdict(window) for window in windows]
                    for server, windows in result.windows.items()
                },
            }
            for result in run.results
        ],
        "starts": dict(run.starts),
    }
    files[0].write_text(json.dumps(content, indent=1) + "\n")
    files[1].write_text(_markdown(run, where))
    return files


def provenance() -> dict[str, Any]:
    """When, on what hardware, beside what load, which commit, Python and versions of what."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "load average": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
        # How it was built as well: what a compiler learnt from a profile is a fifth quicker.
        "python": sys.version,
        "versions": versions(),
    }


def versions() -> dict[str, dict[str, str]]:
    """Of the packages that matter, by environment."""
    roots = {"triton": triton.root()}
    roots |= {path.name: path for path in sorted(environments.folder("").glob("*/"))}
    found = {"ours and fastapi": _installed(None)}
    for name, root in roots.items():
        found[name] = _installed([str(path) for path in root.glob("lib/python*/site-packages")])
    return found


def _installed(paths: list[str] | None) -> dict[str, str]:
    given = distributions(path=paths) if paths is not None else distributions()
    known = {each.name.lower(): each.version for each in given}
    return {package: known[package] for package in PACKAGES if package in known}


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def _markdown(run: Run, where: Mapping[str, Any]) -> str:
    facts = {key: where[key] for key in FACTS}
    for name, packages in where["versions"].items():
        facts[name] = ", ".join(" ".join(each) for each in packages.items())
    facts |= run.options
    facts |= {f"{each.name}, not measured": each.reason for each in run.absent}
    facts |= report.endings(run.results)
    listed = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    return "\n".join(
        ("# Penstock beside its peers\n", listed, "", *(sheet.markdown() for sheet in run.sheets()))
    )
