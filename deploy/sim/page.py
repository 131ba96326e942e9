"""The tables of docs/scale.md, from bench/results/sim.json: python -m deploy.sim.page"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.peers.base import ROOT
from deploy.sim.capacity import MEASURED, RATES, Assumptions, tables
from deploy.sim.figures import PHASES

PAGE: Final = ROOT / "docs" / "scale.md"


def figures(saved: Mapping[str, Any]) -> str:
    """Markdown: where it was measured, and a row for each scenario."""
    options = saved["options"]
    where = (
        f"Envoy {options['envoy']}, {options['network']}; {options['rate']:g} requests a second in "
        f"all; {saved['hardware']}, which servers, Envoy and clients share; load average "
        f"{saved['load average'][0]:g}."
    )
    return "\n".join(
        (
            *(where, ""),
            "| scenario | asked | of each replica, % | failed | tried again | left out after, s "
            f"| back after, s | {' | '.join(f'{phase}, ms' for phase in PHASES)} |",
            f"|---{'|---:' * (6 + len(PHASES))}|",
            *map(_row, saved["scenarios"]),
        )
    )


def _row(scenario: Mapping[str, Any]) -> str:
    reasons = "".join(f", {count} {reason}" for reason, count in scenario["reasons"].items())
    failed = f"{sum(scenario['failed'].values())}{f' ({reasons[2:]})' if reasons else ''}"
    phases = (scenario["phases"][name] for name in PHASES)
    cells = (
        scenario["name"],
        f"{sum(scenario['asked'].values()):,}",
        " / ".join(f"{100 * share:.0f}" for share in scenario["shares"]),
        failed,
        scenario["tried_again"],
        ", ".join(f"{each['eject']:.2f}" for each in scenario["times"]),
        ", ".join(f"{each['back']:.2f}" for each in scenario["times"]),
        *(
            "" if each["p50_ms"] is None else f"{each['p50_ms']:.0f} / {each['p99_ms']:.0f}"
            for each in phases
        ),
    )
    return f"| {' | '.join(map(str, cells))} |"


def written(page: str, saved: Mapping[str, Any]) -> str:
    """The page with what was saved between its marks; ValueError where a mark is missing."""
    page = between(page, "figures", figures(saved))
    return between(page, "plan", tables(saved, Assumptions(), RATES))


def between(page: str, name: str, part: str) -> str:
    """The page with `part` between the marks of that name; ValueError where one is missing."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has no {begin} and {end}")
    return f"{before}{begin}\n{part}\n{end}{after}"


def main(page: Path = PAGE) -> None:
    """Bring the page up to date."""
    page.write_text(written(page.read_text(), json.loads(MEASURED.read_text())))


if __name__ == "__main__":
    main()
