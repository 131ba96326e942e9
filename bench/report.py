"""The figures as a person reads them and as a program does."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from bench.contestants import Window
from bench.windows import Result, Spread

OURS: Final = "ours"
# The load generator is the bottleneck when it computes nearly all the time.
SATURATED: Final = 0.9

HEADINGS: Final = (
    *("case", "server", "requests/s", "spread", "ours is", "p50 ms", "p99 ms", "CPU us"),
    *("ours costs", "load", "others", "errors"),
)
CAPTION: Final = (
    "Medians of interleaved windows. ours is: our requests/s over theirs, round by round. CPU us: "
    "the server's processor time for a request; ours costs: ours over theirs, which noise on the "
    "machine hardly touches. load: how busy the load generator was. others: the share of the "
    "server's core that went to somebody else. raw: images through session.run alone."
)


def table(results: Sequence[Result]) -> Table:
    """All cases in one table."""
    drawn = Table(title="Penstock and its peers on one core", caption=CAPTION)
    for heading in HEADINGS:
        drawn.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
    for result in results:
        for index, name in enumerate(result.windows):
            drawn.add_row("" if index else str(result.case), *row(result, name))
        drawn.add_section()
    return drawn


def row(result: Result, name: str) -> list[str]:
    """One contestant in one case, a cell for each heading but the case's."""

    def of(figure: Callable[[Window], float]) -> Spread:
        return result.spread(name, figure)

    speed = of(lambda window: window.throughput)
    load = of(lambda window: window.load / window.seconds).median
    others = of(lambda window: window.others / window.seconds).median
    return [
        name,
        f"{speed.median:,.0f}",
        f"{(speed.most - speed.least) / speed.median:.0%}" if speed.median else "",
        _against(result, name, lambda window: window.throughput),
        f"{1e3 * of(lambda window: window.p50).median:.2f}",
        f"{1e3 * of(lambda window: window.p99).median:.2f}",
        f"{1e6 * of(lambda window: window.cost).median:.0f}",
        _against(result, name, lambda window: window.cost),
        f"{load:.0%}{' (!)' * (load > SATURATED)}",
        f"{others:.0%}",
        str(result.errors.get(name, 0)),
    ]


def _against(result: Result, name: str, figure: Callable[[Window], float]) -> str:
    if name == OURS or OURS not in result.windows:
        return ""
    ratio = result.ratio(OURS, name, figure)
    return f"{ratio.median:.2f}x ({ratio.least:.2f}-{ratio.most:.2f})"
