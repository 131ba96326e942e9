"""The figures as tables, for a terminal and for a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

from rich.table import Table

from bench.goals import Outcome, cost, throughput
from bench.lineup import OURS
from bench.windows import Figure, Result, Spread

# The load generator is the bottleneck when it computes nearly all the time.
SATURATED: Final = 0.9
WORDS: Final = 200  # characters of a log
HEADINGS: Final = (
    *("kind, connections", "server", "requests/s", "spread", "ours is", "p50 ms", "p99 ms"),
    *("CPU us", "ours costs", "load", "others", "n", "errors"),
)
CAPTION: Final = (
    "Medians of interleaved windows, with the range of rounds. ours is: our requests/s over "
    "theirs, round by round. CPU us: the server's processor time for a request; ours costs: ours "
    "over theirs, which noise hardly touches. load: how busy the load generator was; above 90 % "
    "(!) it is the bottleneck. others: the share of the server's core, or of the load's if that "
    "lost more, that went to somebody else. n: the rounds kept, the quietest of those measured. "
    "ended: the server's process did, in that case; for the next one it was started again. raw: "
    "images through session.run alone, of large tensors batches copied in and out."
)
STARTS: Final = (
    "From the start of the process to the first right answer. One start of each server before "
    "these is not counted: it leaves the bytecode of Python modules to the next ones. committed "
    "models: the whole repository, until the classifier that is asked answers; others may still "
    "be loading."
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of texts."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def drawn(self) -> Table:
        """For a terminal; a row with a first cell begins a section."""
        table = Table(title=self.title, caption=self.caption)
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if index else "left", overflow="fold")
        for row in self.rows:
            if row[0]:
                table.add_section()
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a file."""
        rows = [self.headings, ["---", *("---:" for _ in self.headings[1:])], *self.rows]
        lines = (f"| {' | '.join(row)} |" for row in rows)
        return "\n".join((f"## {self.title}", "", *lines, "", self.caption)).rstrip() + "\n"


def deviating(values: Sequence[float], digits: int) -> str:
    """The mean of what was measured several times, and the standard deviation of such values."""
    if not values:
        return "-"
    deviation = f" ± {stdev(values):,.{digits}f}" if len(set(values)) > 1 else ""
    return f"{mean(values):,.{digits}f}{deviation}"


def of_cases(results: Sequence[Result]) -> Sheet:
    """All cases, a row for each contestant."""
    rows = []
    for result in results:
        told = [_row(result, name) for name in result.windows]
        told += [[name, "ended", *[""] * (len(HEADINGS) - 3)] for name in result.ended]
        rows += [["" if index else str(result.case), *row] for index, row in enumerate(told)]
    return Sheet("Penstock and its peers on one core", HEADINGS, rows, CAPTION)


def endings(results: Sequence[Result]) -> dict[str, str]:
    """Who ended in which case, how, and with which last words, in one line each."""
    told = {}
    for result in results:
        for name, ending in result.ended.items():
            words = " ".join(ending.words.split())[-WORDS:]
            told[f"{name}, ended in {result.case}"] = f"{ending.how}: {words}"
    return told


def of_starts(starts: Mapping[str, Sequence[float]]) -> Sheet:
    """From the start of the process to the first right answer."""
    rows = []
    for name, seconds in starts.items():
        spread = Spread.of(seconds)
        span = f"{spread.least:.2f} to {spread.most:.2f}"
        rows.append([name, f"{spread.median:.2f}", span, str(spread.n)])
    return Sheet("Start to first inference", ("server", "seconds", "range", "n"), rows, STARTS)


def of_goals(outcomes: Sequence[Outcome]) -> Sheet:
    """What was wanted and what was found."""
    rows = []
    for one in outcomes:
        bound = "at least" if one.at_least else "at most"
        wanted = f"{bound} {one.wanted:g}{one.unit}"
        by_cost = _span(one.cost, one.unit) if one.cost else ""
        met = "yes" if one.met else "by CPU time" if one.met_by_cost else "no"
        rows.append([one.goal, wanted, _span(one.found, one.unit), by_cost, met])
    headings = ("goal", "wanted", "found", "by CPU time", "met")
    return Sheet("Goals", headings, rows, "by CPU time: the same ratio of processor time.")


def _row(result: Result, name: str) -> list[str]:
    def middle(figure: Figure) -> float:
        return result.spread(name, figure).median

    speed = result.spread(name, throughput)
    load = middle(lambda window: window.load / window.seconds)
    return [
        name,
        f"{speed.median:,.0f}",
        f"{(speed.most - speed.least) / speed.median:.0%}" if speed.median else "",
        _against(result, name, throughput),
        f"{1e3 * middle(lambda window: window.p50):.2f}",
        f"{1e3 * middle(lambda window: window.p99):.2f}",
        f"{1e6 * middle(cost):,.0f}",
        _against(result, name, cost),
        f"{load:.0%}{' (!)' * (load > SATURATED)}",
        f"{middle(lambda window: window.others):.0%}",
        f"{speed.n} of {speed.n + result.dropped}",
        str(result.errors.get(name, 0)),
    ]


def _against(result: Result, name: str, figure: Figure) -> str:
    if name == OURS or OURS not in result.windows:
        return ""
    return _span(result.ratio(OURS, name, figure), "x")


def _span(spread: Spread, unit: str) -> str:
    digits = 0 if spread.median >= 100 else 2
    least, most = f"{spread.least:.{digits}f}", f"{spread.most:.{digits}f}"
    return f"{spread.median:.{digits}f}{unit} ({least}-{most})"
