"""Interleaved windows, A B C A B C: what drifts on the machine drifts for all alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.cases import Case
from bench.contestants import Contestant, Ended, Window

WARM_UP_SECONDS: Final = 1

QUIET: Final = 0.1  # of a core

Figure = Callable[[Window], float]
Round = Mapping[str, Window]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, the least, the greatest, and how many there were."""

    median: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Result:
    """One case: the windows of each contestant, in the order in which they were measured.

    Those who ended meanwhile have none.
    """

    case: Case
    windows: Mapping[str, Sequence[Window]]
    dropped: int = 0  # rounds, because others were busy
    ended: Mapping[str, Ended] = field(default_factory=dict)

    def spread(self, name: str, figure: Figure) -> Spread:
        """A figure of one contestant over its windows."""
        return Spread.of([figure(window) for window in self.windows[name]])

    def ratio(self, name: str, base: str, figure: Figure) -> Spread:
        """A figure of one contestant over that of another, round by round."""
        rounds = zip(self.windows[name], self.windows[base], strict=True)
        return Spread.of([figure(one) / (figure(other) or float("nan")) for one, other in rounds])

    @property
    def errors(self) -> dict[str, int]:
        """Requests that failed, of those contestants that had any."""
        counted = {
            name: sum(window.errors for window in windows) for name, windows in self.windows.items()
        }
        return {name: errors for name, errors in counted.items() if errors}


def measure(
    case: Case,
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: int,
    advance: Callable[[], None] = lambda: None,
) -> Result:
    """Check every contestant's answer, warm it up, then take windows in turns.

    While others take more of the cores than is quiet, up to twice as many rounds are
    measured; those are kept in which others took least. Who ends is not asked again.
    """
    asked = list(contestants)
    ended: dict[str, Ended] = {}

    def of_each(window: Callable[[Contestant], Window]) -> Round:
        windows = {}
        for one in tuple(asked):
            try:
                windows[one.name] = window(one)
            except Ended as ending:
                asked.remove(one)
                ended[one.name] = ending
        return windows

    def warm_up(one: Contestant) -> Window:
        one.check(case)
        window = one.window(case, WARM_UP_SECONDS)
        advance()
        return window

    of_each(warm_up)
    taken: list[Round] = []
    while len(taken) < 2 * rounds and sum(noise(each) <= QUIET for each in taken) < rounds:
        taken.append(of_each(lambda one: one.window(case, seconds)))
        if len(taken) <= rounds:
            advance()
    kept = sorted(sorted(range(len(taken)), key=lambda index: noise(taken[index]))[:rounds])
    windows = {one.name: [taken[index][one.name] for index in kept] for one in asked}
    return Result(case, windows, len(taken) - rounds, ended)


def noise(windows: Round) -> float:
    """The largest share of a core that others took in a window of a round."""
    return max((window.others for window in windows.values()), default=0.0)
