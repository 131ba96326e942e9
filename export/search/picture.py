"""A search as a picture and as a table: what each trial came to."""

import csv
import io
from collections.abc import Sequence

from export.search.study import Outcome, front
from training.curve import png


def draw(title: str, outcomes: Sequence[Outcome], chosen: Outcome, accuracy: bool) -> bytes:
    """A PNG: the error of each trial against its latency, the Pareto front and the winner."""
    from matplotlib.figure import Figure

    ended = [each for each in outcomes if not each.failure]
    best = front(ended)
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.scatter(*_places(ended, accuracy), s=18, color="tab:gray", alpha=0.6, label="trials")
    axes.plot(*_places(best, accuracy), drawstyle="steps-post", marker="o", label="Pareto front")
    axes.scatter(
        *_places([chosen], accuracy), marker="*", s=220, color="tab:red", label="winner", zorder=3
    )
    axes.set_title(title, fontweight="bold")
    axes.set_xlabel("latency in ONNX Runtime at batch 1, µs")
    axes.set_ylabel("accuracy on held-out samples, %" if accuracy else "loss on held-out samples")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return png(figure)


def table(outcomes: Sequence[Outcome]) -> str:
    """CSV, a row for each trial; what failed has neither error nor latency."""
    written = io.StringIO()
    names = list(outcomes[0].point)
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["trial", "error", "latency_us", "on_front", *names])
    best = front(outcomes)
    for each in outcomes:
        figures = ["", ""] if each.failure else [f"{each.error:.6g}", f"{each.latency:.1f}"]
        point = [each.point[name] for name in names]
        rows.writerow([each.number, *figures, int(each in best), *point])
    return written.getvalue()


def _places(outcomes: Sequence[Outcome], accuracy: bool) -> tuple[list[float], list[float]]:
    quality = [100 * (1 - each.error) if accuracy else each.error for each in outcomes]
    return [each.latency for each in outcomes], quality
