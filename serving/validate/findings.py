"""What a check finds: faults, which keep a model from being served, and warnings."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from serving.config import Refused
from serving.errors import ServingError

_LINE: Final = re.compile(r"(?P<file>.+):(?P<line>\d+)")
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class Severity(Enum):
    """Whether a server would refuse the model."""

    FAULT = "fault"
    WARNING = "warning"


class Verdict(Enum):
    """The worst of what was found."""

    GOOD = "good"
    WARNINGS = "warnings"
    FAULTS = "faults"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with its cure; line and column are 0 where no line says it."""

    severity: Severity
    file: str
    message: str
    line: int = 0
    column: int = 0

    @property
    def place(self) -> str:
        """`file:line:column` as far as they are known."""
        known = (self.file, *(number for number in (self.line, self.column) if number))
        return ":".join(map(str, known))


@dataclass(slots=True)
class Findings:
    """Everything that was found about one thing, each finding once."""

    _found: dict[Finding, None] = field(default_factory=dict)

    def all(self) -> tuple[Finding, ...]:
        """What was found so far, the faults first."""
        return tuple(sorted(self._found, key=lambda one: one.severity is not Severity.FAULT))

    def fault(self, file: Path, message: str) -> None:
        """Add what keeps the model from being served."""
        self._found[Finding(Severity.FAULT, str(file), message)] = None

    def warning(self, file: Path, message: str) -> None:
        """Add what a server would put up with."""
        self._found[Finding(Severity.WARNING, str(file), message)] = None

    def attempt(
        self,
        file: Path,
        action: Callable[_Given, _Result],
        *args: _Given.args,
        **kwargs: _Given.kwargs,
    ) -> _Result | None:
        """The result of `action`; None where it raised, after its faults were added.

        `file` is where they are, unless they say so themselves.
        """
        try:
            return action(*args, **kwargs)
        except Refused as refused:
            for located in refused.faults:
                finding = Finding(
                    Severity.FAULT, located.file, located.message, located.line, located.column
                )
                self._found[finding] = None
        except ServingError as error:
            self._found[_placed(error.message, file)] = None
        return None


def _placed(message: str, file: Path) -> Finding:
    """A fault in `file`, or in what the message begins with if that is the same or inside it."""
    place, found, rest = message.partition(": ")
    path, line = place, 0
    if match := _LINE.fullmatch(place):
        path, line = match["file"], int(match["line"])
    if found and Path(path).is_relative_to(file):
        return Finding(Severity.FAULT, path, rest, line)
    return Finding(Severity.FAULT, str(file), message)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What was found about one model; `versions` are those that its policy serves."""

    name: str
    versions: tuple[int, ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        return verdict(self.findings)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found about all models; `findings` are those about the repositories themselves."""

    models: tuple[ModelReport, ...]
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings."""
        return verdict(self.all())

    def all(self) -> tuple[Finding, ...]:
        """Every finding."""
        return (*self.findings, *(one for model in self.models for one in model.findings))

    def models_of(self, wanted: Verdict) -> int:
        """How many models have that verdict."""
        return sum(model.verdict is wanted for model in self.models)


def verdict(findings: Sequence[Finding]) -> Verdict:
    """The worst of `findings`."""
    if any(finding.severity is Severity.FAULT for finding in findings):
        return Verdict.FAULTS
    return Verdict.WARNINGS if findings else Verdict.GOOD


def count(findings: Sequence[Finding], severity: Severity) -> int:
    """How many of `findings` are of that severity."""
    return sum(finding.severity is severity for finding in findings)
