"""How figures and loads are written, and the report that ends a run in a terminal."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.bench.plan import Step
from serving.bench.result import Result, StepResult
from serving.bench.slo import Verdict, answers_for

_NONE: Final = "-"
_WIDE: Final = 118  # letters of a line that all columns take
_MORE: Final = ("p90 ms", "p99.9 ms", "max ms", "batch")  # what a narrower terminal leaves out
_KINDS: Final = 6  # of failures of a step that are written


def digits(seconds: float) -> str:
    """Three digits of a time in milliseconds, such as `0.123`, `12.3`, `1,234`."""
    value = 1e3 * seconds
    places = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{places}f}"


def milliseconds(seconds: float) -> str:
    """The same with its unit."""
    return f"{digits(seconds)} ms"


def rate(value: float) -> str:
    """Requests per second, such as `12.3`, `1,234`."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def share(value: float) -> str:
    """A share of 1, such as `0 %`, `0.012 %`, `5.1 %`."""
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.1f} %"


def load_name(step: Step) -> str:
    """A step's load in a few letters: `8 connections`, `500/s`, `100 to 500/s`."""
    if step.arrivals is None:
        return f"{step.in_flight} connection{'' if step.in_flight == 1 else 's'}"
    if step.arrivals.start:
        return f"{step.arrivals.start:g} to {step.arrivals.rate:g}/s"
    return f"{step.arrivals.rate:,g}/s"


def load_kind(steps: Sequence[Step]) -> str:
    """How the load of the steps is made, in words."""
    arrivals = steps[0].arrivals
    if arrivals is None:
        return "closed loop: every connection asks again once it is answered"
    kind = (
        f"bursts of {arrivals.burst}" if arrivals.burst > 1 else f"{arrivals.shape.value} arrivals"
    )
    return f"open loop, {kind}: latency counts from when a request was due"


def error_lines(step: StepResult) -> Iterator[str]:
    """The failures of a step, the most frequent first."""
    for index, (failure, count) in enumerate(step.failures.items()):
        if index == _KINDS:
            rest = step.failed - sum(list(step.failures.values())[:_KINDS])
            yield f"{rest:,} other failures; --json FILE holds them all"
            return
        yield f"{count:,} x {failure.status}: {failure.message}"


def measured(verdict: Verdict) -> str:
    """The figure of a verdict with its unit."""
    if verdict.objective.name == "errors":
        return share(verdict.measured)
    if verdict.objective.is_latency:
        return milliseconds(verdict.measured)
    return f"{rate(verdict.measured)}/s"


def conclusion(result: Result) -> str:
    """What came out, in a sentence."""
    if not result.is_complete:
        return "interrupted: what was measured until then is above"
    if not result.objectives:
        silent = [load_name(each.step) for each in result.steps if not each.answered]
        return f"no request was answered at {', '.join(silent)}" if silent else "done"
    texts = ", ".join(each.text for each in result.objectives)
    failed = [load_name(each.step) for each in result.steps if not each.passed]
    if not failed:
        return f"SLO met: {texts}"
    return f"SLO missed at {', '.join(failed)}: {texts}"


def capacity(result: Result) -> str | None:
    """The highest throughput of a step that meets the objectives; None where that says nothing."""
    passing = [step for step in result.steps if step.passed]
    if not result.objectives or not passing or len(result.steps) < 2:
        return None
    best = max(passing, key=lambda step: step.throughput)
    return f"the most within the SLO: {rate(best.throughput)} requests/s at {load_name(best.step)}"


def report(result: Result, console: Console) -> None:
    """Print the table, the failures, what is doubtful, and the verdict."""
    console.print()
    console.print(
        f"[bold]{escape(result.target.model)}[/] at {result.target.url} "
        f"({result.target.protocol.value})\n{load_kind([each.step for each in result.steps])}",
        soft_wrap=True,
    )
    console.print(_table(result, console.width))
    for step in result.steps:
        for line in error_lines(step):
            console.print(f"[red]{load_name(step.step)}:[/] {escape(line)}", soft_wrap=True)
    for step in result.steps:
        for warning in step.warnings:
            line = f"[yellow]{load_name(step.step)}: {escape(warning)}[/]"
            console.print(line, soft_wrap=True)
    if best := capacity(result):
        console.print(best)
    for step in result.steps if result.is_complete else ():
        for verdict in step.verdicts:
            if not verdict.met:
                text = f"{verdict.objective.text} missed at {load_name(step.step)}"
                console.print(f"[red]{text}: {measured(verdict)}[/]")
    colour = "yellow" if not result.is_complete else "green" if result.passed else "red"
    console.print(f"[bold {colour}]{escape(conclusion(result))}[/]", soft_wrap=True)


def _table(result: Result, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names, cells = zip(
        *(each for each in columns(result) if width >= _WIDE or each[0] not in _MORE), strict=True
    )
    for name in names:
        table.add_column(name, justify="left" if name == "load" else "right", no_wrap=True)
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def columns(result: Result) -> list[tuple[str, list[str]]]:
    """The table's columns: a heading, and a cell for each step; those that say nothing are out."""
    steps = result.steps
    found = [
        ("load", [load_name(each.step) for each in steps]),
        ("requests/s", [rate(each.throughput) for each in steps]),
    ]
    if any(each.rows > 1 for each in steps):
        found.append(("rows/s", [rate(each.throughput * each.rows) for each in steps]))
    if any(each.is_latency for each in result.objectives):
        found.append(("goodput/s", [rate(each.goodput) for each in steps]))
    figures = ("p50", "p90", "p99", "p99.9", "max")
    found += [(f"{name} ms", [_latency(each, name) for each in steps]) for name in figures]
    found.append(("errors", [share(each.errors) for each in steps]))
    if any(each.server for each in steps):
        found += [
            ("queue ms", [_phase(each, "queue") for each in steps]),
            ("compute ms", [_phase(each, "compute") for each in steps]),
            ("batch", [f"{each.server.batch:.1f}" if each.server else _NONE for each in steps]),
        ]
    if result.objectives:
        found.append(("SLO", ["met" if each.passed else "missed" for each in steps]))
    return found


def _latency(step: StepResult, name: str) -> str:
    """A percentile, where there are answers enough for it."""
    least = 1 if name == "max" else answers_for(float(name[1:]))
    return digits(step.latency(name)) if step.answered >= least else _NONE


def _phase(step: StepResult, name: str) -> str:
    return digits(getattr(step.server, name)) if step.server else _NONE
