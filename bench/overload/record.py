"""A run as it is shown and kept: tables, a document in JSON, a page in markdown, a picture."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from bench.overload.contestants import OURS
from bench.overload.curves import PROMISED_LOAD, PROMISED_SHARE, Curve, Point, milliseconds
from bench.overload.measure import Plan
from bench.peers.base import ROOT
from bench.record import FACTS, provenance
from bench.report import Sheet

PICTURE: Final = ROOT / "docs" / "overload.png"
_LATE: Final = 0.05  # of the objective
_CAPTION: Final = (
    "load: offered, as a multiple of the server's own saturation. goodput: answers a second within "
    "the objective. p50 and p99: of what was not refused, from when a request was due; lost: given "
    "up by the client, or failed. CPU: of the servers' processor; others: what other programs took."
)


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run has found, and how it was asked; `absent` tells who could not run, and why."""

    plan: Plan
    blocks: int
    curves: Sequence[Curve]
    absent: Mapping[str, str]

    @property
    def ours(self) -> Curve:
        """Penstock's."""
        return next(curve for curve in self.curves if curve.name == OURS)

    @property
    def is_kept(self) -> bool:
        """Whether Penstock keeps its promise."""
        return self.ours.keeps_promise(self.plan.objective)

    def verdict(self) -> str:
        """The promise in figures, in one sentence."""
        point = self.ours.at(PROMISED_LOAD)
        wanted, found = milliseconds(self.plan.objective), milliseconds(point.p99)
        return (
            f"at {point.load:g}x: {self.ours.kept(PROMISED_LOAD):.0%} of the best goodput "
            f"(promised {PROMISED_SHARE:.0%}), p99 of accepted requests {found} ms (promised "
            f"{wanted} ms): {'kept' if self.is_kept else 'NOT kept'}"
        )

    def sheets(self) -> list[Sheet]:
        """A table of all points."""
        headings = (
            *("server", "load", "offered/s", "goodput/s", "of peak", "refused", "lost"),
            *("p50 ms", "p99 ms", "CPU", "others", "n"),
        )
        rows = [row for curve in self.curves for row in self._rows(curve)]
        title = f"Goodput within {milliseconds(self.plan.objective)} ms"
        return [Sheet(title, headings, rows, _CAPTION)]

    def _rows(self, curve: Curve) -> Iterator[list[str]]:
        for index, point in enumerate(curve.points):
            is_late = point.late > _LATE * self.plan.objective
            yield [
                "" if index else f"{curve.name} ({curve.saturation:,.0f}/s)",
                f"{point.load:g}x",
                f"{point.rate:,.0f}{' (sent late)' if is_late else ''}",
                f"{point.goodput:,.0f}",
                f"{point.goodput / max(curve.peak, 1e-9):.0%}",
                *(f"{share:.1%}" for share in (point.refused, point.lost)),
                *(milliseconds(seconds) for seconds in (point.p50, point.p99)),
                *(f"{share:.0%}" for share in (point.cpu, point.others)),
                f"{point.requests:,}",
            ]


def save(run: Run, folder: Path) -> list[Path]:
    """Write overload.json and overload.md into `folder`, and the picture; gives their paths."""
    from bench.overload.picture import draw

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "overload.json", folder / "overload.md", PICTURE]
    where = provenance()
    files[0].write_text(json.dumps(_document(run, where), indent=1) + "\n")
    files[1].write_text(_markdown(run, where))
    files[2].write_bytes(draw(run))
    return files


def _document(run: Run, where: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **where,
        "options": {**asdict(run.plan), "blocks": run.blocks},
        "absent": dict(run.absent),
        "kept": run.is_kept,
        "verdict": run.verdict(),
        "curves": [
            {
                "name": curve.name,
                "title": curve.title,
                "saturation": curve.saturation,
                "peak": curve.peak,
                "points": [_figures(point) for point in curve.points],
            }
            for curve in run.curves
        ],
    }


def _figures(point: Point) -> dict[str, float | None]:
    """JSON knows no infinity: null is a time that did not end."""
    return {name: value if isfinite(value) else None for name, value in asdict(point).items()}


def _markdown(run: Run, where: Mapping[str, Any]) -> str:
    facts = {key: where[key] for key in FACTS}
    facts |= {name: curve.title for name, curve in ((each.name, each) for each in run.curves)}
    facts |= {f"{name}, not measured": reason for name, reason in run.absent.items()}
    listed = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    sheets = (sheet.markdown() for sheet in run.sheets())
    return "\n".join(("# Overload\n", listed, "", f"Penstock {run.verdict()}.", "", *sheets))
