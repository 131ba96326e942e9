"""The autoscaling of docs/kubernetes.md, its table and its picture.

python -m deploy.sim.autoscaling_page
"""

import io
from collections.abc import Mapping
from typing import Any, Final

from deploy.sim.autoscaler import STEP
from deploy.sim.autoscaling import CAPACITY, ROOT, TRAFFIC, Run, manifest, simulate
from deploy.sim.page import between
from deploy.sim.picture import few_colours

PAGE: Final = ROOT / "docs" / "kubernetes.md"
PICTURE: Final = PAGE.with_name("autoscaling.png")
_TOLD: Final = {
    "ramp": "ramp: 100 to 1,200 requests a second in an hour, an hour of that, and back",
    "spike": "spike: five times as many at once, for 20 minutes",
    "two days": "two days between 200 and 1,400",
}


def runs(by_load_alone: bool = False) -> dict[str, Run]:
    """What the manifest makes of each traffic."""
    spec = manifest()
    return {name: simulate(spec, made(), by_load_alone) for name, made in TRAFFIC.items()}


def table(found: Mapping[str, Run], alone: Mapping[str, Run]) -> str:
    """Markdown: a row for each traffic."""
    return "\n".join(
        (
            "| traffic | in time | late at most, s | turns | by the load alone |",
            "|---|---:|---:|---:|---|",
            *(
                f"| {_TOLD[name]} | {_percent(run)} | {run.longest_late} | {run.turns()} "
                f"| {_percent(alone[name])}, {_turns(alone[name])} |"
                for name, run in found.items()
            ),
        )
    )


def _percent(run: Run) -> str:
    return f"{100 * run.in_time:.6g} %" if run.in_time > 0.9995 else f"{100 * run.in_time:.1f} %"


def _turns(run: Run) -> str:
    turns = run.turns()
    return f"{turns} turn{'s' * (turns != 1)}"


def draw(found: Mapping[str, Run], alone: Mapping[str, Run]) -> bytes:
    """A PNG of few colours: for each traffic requests, replicas and load over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), dpi=90, layout="constrained")
    panels = figure.subplots(3, len(found), squeeze=False, sharex="col", sharey="row")
    for column, (name, run) in zip(panels.T, found.items(), strict=True):
        hours = [step * STEP / 3600 for step in range(len(run.rates))]
        column[0].set_title(f"{name}: {_percent(run)} in time, {_turns(run)}", fontsize=10)
        _requests(column[0], hours, run)
        _replicas(column[1], hours, run, alone[name])
        _load(column[2], hours, run)
        column[2].set_xlabel("hours", fontsize=8)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes, label in zip(panels[:, 0], ("requests a second", "replicas", "load"), strict=True):
        axes.set_ylabel(label, fontsize=8)
        axes.legend(fontsize=7, frameon=False, loc="upper left")
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return few_colours(written)


def _requests(axes: Any, hours: list[float], run: Run) -> None:
    capacity = [CAPACITY * ready for ready in run.ready]
    late = [refused > 0 for refused in run.refused]
    axes.plot(hours, run.rates, color="tab:blue", lw=0.6, label="arriving")
    axes.step(hours, capacity, color="tab:green", lw=1, where="post", label="what is ready can")
    axes.fill_between(hours, run.rates, capacity, where=late, color="tab:red", label="refused")


def _replicas(axes: Any, hours: list[float], run: Run, alone: Run) -> None:
    axes.step(hours, alone.replicas, color="0.7", lw=0.6, where="post", label="by the load alone")
    axes.step(hours, run.replicas, color="tab:green", lw=1.2, where="post", label="as deployed")


def _load(axes: Any, hours: list[float], run: Run) -> None:
    axes.plot(hours, run.loads, color="tab:orange", lw=1, label="penstock_load, over a minute")
    axes.axhline(0.5, color="0.4", lw=0.8, ls="--", label="target")


def main() -> None:
    """Bring both up to date."""
    found, alone = runs(), runs(by_load_alone=True)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between(page, "autoscaling", table(found, alone)), encoding="utf-8")
    PICTURE.write_bytes(draw(found, alone))


if __name__ == "__main__":
    main()
