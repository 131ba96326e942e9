"""A picture of the scenarios: each answer's latency over time, and what happened when."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from deploy.sim.load import PROTOCOLS
from deploy.sim.scenarios import Outcome

_COLOURS: Final = {"REST": "tab:blue", "gRPC": "tab:green"}
_COLUMNS: Final = 2


def draw(outcomes: Sequence[Outcome]) -> bytes:
    """A PNG of few colours, with a panel for each scenario."""
    from matplotlib.figure import Figure

    rows = -(-len(outcomes) // _COLUMNS)
    figure = Figure(figsize=(11, 2.5 * rows + 0.7), dpi=90, layout="constrained")
    figure.suptitle("Latency of every request, from when it was due", fontweight="bold")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).flat)
    for axes, outcome in zip(panels, outcomes, strict=False):
        _panel(axes, outcome)
    for axes in panels[len(outcomes) :]:
        axes.set_visible(False)
    # Each label once, however many faults there were.
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return few_colours(written)


def _panel(axes: Any, outcome: Outcome) -> None:
    for fault in outcome.faults:
        began, ejected, over, returned = (
            moment - outcome.began
            for moment in (fault.began, fault.ejected, fault.over, fault.returned)
        )
        axes.axvspan(began, ejected, color="tab:red", alpha=0.25, lw=0, label="until left out")
        axes.axvspan(ejected, over, color="tab:orange", alpha=0.15, lw=0, label="left out")
        axes.axvspan(over, returned, color="tab:olive", alpha=0.15, lw=0, label="returning")
    for name in PROTOCOLS:
        right = [each for each in outcome.asked if each.protocol == name and not each.failure]
        times = [each.due - outcome.began for each in right]
        took = [1e3 * each.seconds for each in right]
        axes.plot(times, took, ".", color=_COLOURS[name], markersize=2, alpha=0.6, label=name)
    failed = [each for each in outcome.asked if each.failure]
    times = [each.due - outcome.began for each in failed]
    took = [1e3 * each.seconds for each in failed]
    axes.plot(times, took, "x", color="tab:red", markersize=4, label="failed")
    axes.set_title(f"{outcome.name}: {len(failed)} of {len(outcome.asked):,} failed", fontsize=10)
    axes.set_yscale("log")
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("ms", fontsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def few_colours(png: io.BytesIO) -> bytes:
    """A third of the bytes, and to the eye the same."""
    written = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(200).save(written, "png", optimize=True)
    return written.getvalue()


def save(outcomes: Sequence[Outcome], file: Path) -> None:
    """Write the picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(draw(outcomes))
