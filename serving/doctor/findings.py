"""What a check finds: how it is, how bad that is, and what to change."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from serving.settings import Settings


class Verdict(Enum):
    """Whether a server would start here (FAULT: no), and serve well (WARNING: perhaps not)."""

    GOOD = "good"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """How something is; `advice` says what to change, and is empty where that is nothing."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


Check: TypeAlias = Callable[[Settings], Iterator[Finding]]


def good(check: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check, Verdict.GOOD, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """A server runs, and not as it could."""
    return Finding(check, Verdict.WARNING, found, advice)


def fault(check: str, found: str, advice: str) -> Finding:
    """A server does not start, or cannot answer."""
    return Finding(check, Verdict.FAULT, found, advice)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst of the findings' verdicts; GOOD of none."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.GOOD)
