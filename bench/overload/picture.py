"""A picture of a run: goodput and latency of every server over the load."""

import io
from math import inf
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

if TYPE_CHECKING:
    from bench.overload.record import Run

_COLOURS: Final = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def draw(run: "Run") -> bytes:
    """A PNG of few colours with two panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=90, layout="constrained")
    goodput, latency = figure.subplots(1, 2)
    for curve, colour in zip(run.curves, _COLOURS, strict=False):
        loads = [point.load for point in curve.points]
        style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4}
        shares = [100 * point.goodput / max(curve.saturation, 1e-9) for point in curve.points]
        goodput.plot(loads, shares, label=curve.title, **style)
        latency.plot(loads, [_ms(point.p99, run.plan.timeout) for point in curve.points], **style)
    objective = 1000 * run.plan.objective
    latency.axhline(objective, color="black", lw=1, ls="--")
    end = (run.plan.loads[-1], 1.08 * objective)
    latency.annotate(f"objective: {objective:g} ms", end, horizontalalignment="right")
    _label(goodput, f"answers within {objective:g} ms, % of saturation")
    _label(latency, "p99 of what was not refused, ms")
    latency.set_yscale("log")
    goodput.set_ylim(0, 110)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return _few_colours(written)


def _label(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("offered load, multiples of what the server can answer", fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _ms(seconds: float, timeout: float) -> float:
    """Milliseconds; what never came is drawn where its client gave up."""
    return 1000 * (timeout if seconds == inf else seconds)


def _few_colours(png: io.BytesIO) -> bytes:
    """A third of the bytes, and to the eye the same."""
    written = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(128).save(written, "png", optimize=True)
    return written.getvalue()
