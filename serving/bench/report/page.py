"""A result as one HTML page that needs nothing but itself."""

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from serving.bench.report.charts import charts
from serving.bench.report.drawing import PALETTE
from serving.bench.report.svg import svg
from serving.bench.report.text import (
    capacity,
    columns,
    conclusion,
    error_lines,
    load_kind,
    load_name,
    measured,
    milliseconds,
    rate,
    share,
)
from serving.bench.result import Result, StepResult

_DARK: Final = PALETTE | {
    "paper": "#161b21",
    "text": "#e6ebf0",
    "muted": "#9aa7b3",
    "grid": "#2b343d",
    "bound": "#ff7b72",
    "c0": "#58a6e0",
    "c1": "#f2a65a",
    "c2": "#5cc48d",
    "c3": "#c77dd8",
}
_STYLE: Final = """
* { box-sizing: border-box }
body { margin: 0; background: var(--grid); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 48px }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px }
h2 { font-size: 16px; margin: 0 0 12px }
p { margin: 0 0 4px }
.muted { color: var(--muted) }
section { background: var(--paper); border-radius: 10px; padding: 20px 24px; margin-top: 16px;
  overflow-x: auto }
.verdict { display: inline-block; margin-top: 12px; padding: 4px 12px; border-radius: 6px;
  font-weight: 600; color: #fff; background: #64717d }
.verdict.good { background: #23824a } .verdict.bad { background: #c03535 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 16px }
.cards b { display: block; font-size: 24px; font-weight: 600; line-height: 1.3 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 6px 8px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid) }
th { color: var(--muted); font-weight: 500; font-size: 13px }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
tr:last-child td { border-bottom: 0 }
td.bad, li.bad { color: var(--bound) }
table.wide td { text-align: left; white-space: normal }
ul { margin: 0; padding-left: 18px }
code { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, monospace; word-break: break-word }
svg { display: block; width: 100%; min-width: 36rem; height: auto; font-family: inherit }
"""


def html(result: Result) -> str:
    """The page."""
    title = escape(f"{result.target.model}: load test")
    body = "\n".join(part for part in _sections(result) if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>{_variables()}{_STYLE}'
        f"</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _variables() -> str:
    light, dark = (
        "; ".join(f"--{name}: {colour}" for name, colour in palette.items())
        for palette in (PALETTE, _DARK)
    )
    return (
        f"\n:root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    )


def _sections(result: Result) -> Iterator[str]:
    yield _head(result)
    yield _section("", _cards(result))
    for drawing in charts(result):
        yield _section("", svg(drawing))
    yield _section("Steps", _steps(result))
    yield _section("Errors", _list(_errors(result), "bad"))
    yield _section("Read with care", _list(_warnings(result)))
    yield _section("Server-Timing, the server's own account of each answer", _timings(result))
    yield _section("How it was measured", _conditions(result))


def _section(title: str, content: str) -> str:
    heading = f"<h2>{escape(title)}</h2>\n" if title else ""
    return f"<section>\n{heading}{content}\n</section>" if content else ""


def _head(result: Result) -> str:
    target, server = result.target, result.server
    version = f" version {target.version}" if target.version else ""
    name = f"{server.get('name', 'unknown server')} {server.get('version', '')}".strip()
    kind = load_kind([each.step for each in result.steps])
    good = "" if not result.is_complete or not result.objectives else "good"
    state = good if result.passed else "bad" if result.is_complete else ""
    return (
        f"<header>\n<h1>{escape(target.model + version)}</h1>\n"
        f'<p class="muted">{escape(name)} at {escape(target.url)}, {target.protocol.value}</p>\n'
        f'<p class="muted">{escape(kind)}</p>\n'
        f'<p class="verdict {state}">{escape(conclusion(result))}</p>\n</header>'
    )


def _cards(result: Result) -> str:
    if not result.steps:
        return ""
    best = max(result.steps, key=lambda step: step.throughput)
    quickest = min((s for s in result.steps if s.answered), key=_median, default=None)
    total = sum(step.answered + step.failed for step in result.steps)
    failed = sum(step.failed for step in result.steps)
    cards = [(f"{rate(best.throughput)}/s", f"most answered, at {load_name(best.step)}")]
    if quickest:
        name = load_name(quickest.step)
        cards.append((milliseconds(quickest.latency("p50")), f"lowest median, at {name}"))
        name = load_name(best.step)
        cards.append((milliseconds(best.latency("p99")), f"p99 at {name}"))
    cards.append((share(failed / max(total, 1)), f"errors in {total:,} requests"))
    cells = "".join(
        f'<div><b>{escape(figure)}</b><span class="muted">{escape(text)}</span></div>'
        for figure, text in cards
    )
    note = capacity(result)
    told = f'<p style="margin-top: 14px">{escape(note[:1].upper() + note[1:])}.</p>' if note else ""
    return f'<div class="cards">{cells}</div>{told}'


def _median(step: StepResult) -> float:
    return step.latency("p50")


def _steps(result: Result) -> str:
    names, cells = zip(*columns(result), strict=True)
    rows = [
        "".join(
            f'<td class="bad">{escape(cell)}</td>'
            if cell == "missed"
            else f"<td>{escape(cell)}</td>"
            for cell in row
        )
        for row in zip(*cells, strict=True)
    ]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>{_verdicts(result)}"


def _verdicts(result: Result) -> str:
    missed = [
        f"{verdict.objective.text} missed at {load_name(step.step)}: {measured(verdict)}"
        for step in result.steps
        for verdict in step.verdicts
        if not verdict.met
    ]
    return f'<div style="margin-top: 14px">{_list(missed, "bad")}</div>' if missed else ""


def _errors(result: Result) -> list[str]:
    return [
        f"{load_name(step.step)}: {line}" for step in result.steps for line in error_lines(step)
    ]


def _warnings(result: Result) -> list[str]:
    return [f"{load_name(s.step)}: {each}" for s in result.steps for each in s.warnings]


def _list(lines: list[str], kind: str = "") -> str:
    items = "".join(f'<li class="{kind}">{escape(line)}</li>' for line in lines)
    return f"<ul>{items}</ul>" if lines else ""


def _timings(result: Result) -> str:
    rows = [
        f"<tr><td>{escape(load_name(step.step))}</td><td>{escape(name)}</td>"
        + "".join(f"<td>{milliseconds(each[figure])}</td>" for figure in ("mean", "p50", "p99"))
        + "</tr>"
        for step in result.steps
        for name, each in sorted(step.timings.items())
    ]
    head = "<tr><th>load</th><th>part</th><th>mean</th><th>p50</th><th>p99</th></tr>"
    return f"<table>\n{head}\n" + "\n".join(rows) + "\n</table>" if rows else ""


def _conditions(result: Result) -> str:
    step = result.steps[0].step if result.steps else None
    client = result.client
    packages = ", ".join(f"{name} {each}" for name, each in client["packages"].items() if each)
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in result.inputs.items())
    facts: list[tuple[str, Any]] = [
        ("Command", f"<code>{escape(result.command)}</code>"),
        ("Began", datetime.fromtimestamp(result.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")),
        ("Inputs", escape(f"{shapes}; {result.data}")),
        ("Client", f"{result.processes} process{'' if result.processes == 1 else 'es'}"),
        ("Client's machine", escape(_machine(client))),
        ("Versions", escape(f"Python {client['python']}, {packages}")),
    ]
    if step:
        amount = f"{step.requests:,} requests" if step.requests else f"{step.duration:g} s"
        told = f"{amount} a step, after a warm-up of {step.warm_up:g} s that is not counted"
        facts.insert(3, ("Measured", escape(told)))
    rows = "\n".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in facts)
    return f'<table class="wide">\n{rows}\n</table>'


def _machine(client: Any) -> str:
    memory = client["memory_bytes"]
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    cpus = client["cpus_available"]
    return f"{client['cpu']}, {cpus} processor{'' if cpus == 1 else 's'}{size}, {client['system']}"
