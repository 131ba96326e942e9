"""How a report reads: lines for people, or JSON for machines.

[1/2] digits-mlp  good      version 1
[2/2] mnist-cnn   1 fault
      fault    models/mnist-cnn/config.pbtxt:7:3
               what the configuration says, what the graph says, and the cure
"""

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from serving.validate.findings import Finding, ModelReport, Report, Severity, Verdict, count

SCHEMA: Final = "penstock.validation/1"

_WIDTH: Final = 100
_COLOURS: Final = {
    Verdict.GOOD: "green",
    Verdict.WARNINGS: "yellow",
    Verdict.FAULTS: "red",
}
_SEVERITIES: Final = {Severity.FAULT: "red", Severity.WARNING: "yellow"}
_LABEL: Final = max(len(severity.value) for severity in Severity)


def finding_lines(findings: Sequence[Finding], indent: int) -> Iterator[str]:
    """Each finding's place in a line that an editor can follow, and below it what is wrong."""
    for finding in findings:
        label = click.style(f"{finding.severity.value:<{_LABEL}}", fg=_SEVERITIES[finding.severity])
        yield f"{' ' * indent}{label}  {_shown(finding)}"
        margin = " " * (indent + _LABEL + 2)
        for line in finding.message.splitlines():
            yield from textwrap.wrap(
                line,
                _WIDTH,
                initial_indent=margin,
                subsequent_indent=margin,
                break_long_words=False,
                break_on_hyphens=False,
            )


def model_lines(model: ModelReport, position: int, names: Sequence[str]) -> Iterator[str]:
    """The verdict on a model, the `position`-th of `names`, with its findings below."""
    width = max(map(len, names))
    counter = f"[{position:>{len(str(len(names)))}}/{len(names)}]"
    verdict = click.style(summary(model.findings), fg=_COLOURS[model.verdict], bold=True)
    served = ", ".join(map(str, model.versions))
    versions = f"  version {served}" if served else ""
    yield f"{counter} {model.name:<{width}}  {verdict}{versions}"
    yield from finding_lines(model.findings, len(counter) + 1)


def last_line(report: Report, seconds: float) -> str:
    """How many models are good and how many are not."""
    total = len(report.models)
    verdicts = ", ".join(
        f"{number} {words}"
        for wanted, words in (
            (Verdict.GOOD, "good"),
            (Verdict.WARNINGS, "with warnings"),
            (Verdict.FAULTS, "with faults"),
        )
        if (number := report.models_of(wanted))
    )
    told = f"{total} model{'' if total == 1 else 's'} checked in {seconds:.1f} s"
    parts = [verdicts] if verdicts else []
    if report.verdict is not Verdict.GOOD:
        parts.append(click.style(summary(report.all()), fg=_COLOURS[report.verdict], bold=True))
    return f"{told}: {'; '.join(parts)}"


def summary(findings: Sequence[Finding]) -> str:
    """`2 faults, 1 warning`, or `good`."""
    counted = ((count(findings, severity), severity.value) for severity in Severity)
    parts = [f"{number} {name}{'' if number == 1 else 's'}" for number, name in counted if number]
    return ", ".join(parts) or Verdict.GOOD.value


def to_json(report: Report) -> str:
    """The report as one document of the schema `penstock.validation/1`.

    `line` and `column` count from 1 and are null where no line says it.
    """
    document = {
        "schema": SCHEMA,
        "verdict": report.verdict.value,
        "models_checked": len(report.models),
        "faults": count(report.all(), Severity.FAULT),
        "warnings": count(report.all(), Severity.WARNING),
        "findings": [_finding(finding) for finding in report.findings],
        "models": [
            {
                "name": model.name,
                "verdict": model.verdict.value,
                "versions": list(model.versions),
                "seconds": round(model.seconds, 3),
                "findings": [_finding(finding) for finding in model.findings],
            }
            for model in report.models
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "file": finding.file,
        "line": finding.line or None,
        "column": finding.column or None,
        "message": finding.message,
    }


def _shown(finding: Finding) -> str:
    """The place, shorter where it is below the working directory."""
    here = f"{Path.cwd()}/"
    return finding.place.removeprefix(here)
