"""The figures as tables, and as they are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.record import RESULTS, provenance
from deploy.sim.cost import Cost
from deploy.sim.figures import PHASES, Figures, Phase

FILE: Final = RESULTS / "sim.json"
_COUNTS: Final = (
    "shares: of the replicas. again: sent to a second one. left out: by Envoy, after that. back: "
    "since it could answer again, or its new process was started. promise: none fails, or only "
    "what a silent replica had in hand."
)
_LATENCIES: Final = (
    "Since a request was due. fault: until the replica could answer again, or was started again; "
    "return: until Envoy took it back."
)


def counts(found: Sequence[Figures]) -> Table:
    """What was asked, what failed and why, and how fast Envoy noticed; a row for each scenario."""
    table = Table(title="Three replicas behind Envoy", caption=_COUNTS)
    table.add_column("scenario", no_wrap=True)
    for name in ("asked", "shares", "failed", "again", "left out, s", "back, s", "promise"):
        table.add_column(name, justify="right")
    for each in found:
        reasons = "".join(f"\n{count} {reason}" for reason, count in each.reasons.items())
        table.add_row(
            each.name,
            f"{sum(each.asked.values()):,}",
            " ".join(f"{share:.0%}" for share in each.shares),
            f"{sum(each.failed.values()):,}{reasons}",
            f"{each.tried_again:,}",
            "\n".join(f"{time.eject:.2f}" for time in each.times),
            "\n".join(f"{time.back:.2f}" for time in each.times),
            "kept" if each.kept else f"broken by {each.unexplained}",
        )
    return table


def latencies(found: Sequence[Figures]) -> Table:
    """How long answers took in each phase; a row for each scenario."""
    table = Table(title="p50 / p99 of right answers, ms", caption=_LATENCIES)
    table.add_column("scenario")
    for name in PHASES:
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(each.name, *(_latency(each.phases[name]) for name in PHASES))
    return table


def _latency(phase: Phase) -> str:
    return "" if phase.p50_ms is None else f"{phase.p50_ms:.1f} / {phase.p99_ms:.1f}"


def costs(found: Sequence[Cost]) -> Table:
    """What a request takes of processors and wires."""
    table = Table(title="What a request costs, at 32 connections")
    table.add_column("way")
    titles = ("requests/s", "replica CPU us", "Envoy CPU us", "bytes there", "bytes back")
    for name in titles:
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(
            each.way,
            *(f"{value:,.0f}" for value in (each.rate, each.replica_us, each.envoy_us)),
            *(f"{value:,.0f}" for value in (each.bytes_there, each.bytes_back)),
        )
    return table


def save(
    found: Sequence[Figures],
    cost: Sequence[Cost],
    options: Mapping[str, Any],
    absent: Mapping[str, str],
    file: Path,
) -> None:
    """Write all of it in JSON, with where it was measured; `absent` says what was not, and why."""
    content = {
        **{key: value for key, value in provenance().items() if key != "versions"},
        "options": dict(options),
        "absent": dict(absent),
        "scenarios": [asdict(each) | {"kept": each.kept} for each in found],
        "costs": [asdict(each) for each in cost],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
