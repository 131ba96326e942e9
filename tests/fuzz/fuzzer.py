"""Runs a decoder over mutated inputs; what it may raise is told apart from what it must not."""

import random
import signal
import time
import traceback
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Final, TypeAlias

from serving.errors import Code, ServingError
from tests.fuzz.coverage import Coverage
from tests.fuzz.mutation import Mutator
from tests.fuzz.structure import Change

# Nothing that is decoded here takes longer than a few milliseconds.
HANG_SECONDS: Final = 5.0
# By the clock on the wall: for what waits and does not compute, however busy the machine is.
PATIENCE: Final = 60.0
# A recursion through the same lines is one kind, however deep.
_INNERMOST: Final = 3
_CHECK_EVERY: Final = 256  # executions between two looks at the clock
_WATCH_EVERY: Final = 128  # executions of which one has its lines watched, which is slow
# An input's chance to be started from falls with its length, as its executions get slower; an
# input shorter than this is as good as any.
_SHORT: Final = 128

# Where in the code an input was refused; empty where it was accepted.
Kind: TypeAlias = tuple[tuple[CodeType, int], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder. `decode` may raise a ServingError, except one that means a fault of the server.

    `seeds` are inputs to start from, `words` what mutations insert; `change` knows the inputs'
    structure.
    """

    name: str
    decode: Callable[[bytes], object]
    seeds: Sequence[bytes]
    words: Sequence[bytes]
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Crash:
    """An input for which a decoder did what it must not."""

    content: bytes
    report: str


@dataclass(slots=True)
class Progress:
    """How far a run is; `kinds` counts the places in the code that were seen to refuse an input.

    `lines` are those of serving that were reached by the few inputs that were watched.
    """

    target: str
    executions: int = 0
    accepted: int = 0
    kinds: int = 0
    lines: int = 0
    seconds: float = 0.0
    crashes: list[Crash] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        share = 100 * self.accepted / self.executions if self.executions else 0.0
        return (
            f"{self.target:<12} {self.executions:>12,} executions {rate:>9,.0f}/s "
            f"{share:>5.1f} % accepted {self.kinds:>4} kinds of refusal {self.lines:>5} lines "
            f"{len(self.crashes)} crashes"
        )


class Hang(Exception):
    """A decoder took too long."""


class _Pool:
    """Inputs to draw from, short ones more often."""

    def __init__(self, inputs: Iterable[bytes]) -> None:
        self._inputs: list[bytes] = []
        self._ends: list[float] = []
        for content in inputs:
            self.add(content)

    def add(self, content: bytes) -> None:
        self._inputs.append(content)
        weight = 1 / max(_SHORT, len(content))
        self._ends.append(weight + (self._ends[-1] if self._ends else 0.0))

    def draw(self, rng: random.Random) -> bytes:
        return self._inputs[bisect(self._ends, rng.random() * self._ends[-1])]


class Fuzzer:
    """Decodes mutated inputs. To be used in the main thread: a signal ends what hangs.

    An input that is refused at a new place, or that reaches a new line, is mutated further, so that
    the run finds its way past the first check. `hang_seconds` are the processor's, to which a busy
    machine adds nothing.
    """

    def __init__(self, target: Target, seed: int, hang_seconds: float = HANG_SECONDS) -> None:
        self._target = target
        self._rng = random.Random(f"{target.name} {seed}")
        self._mutator = Mutator(self._rng, target.words)
        self._seeds = _Pool(target.seeds)
        self._corpus = _Pool(target.seeds)
        self._kinds: set[Kind] = set()
        self._coverage = Coverage()
        self._hang_seconds = hang_seconds
        self.progress = Progress(target.name)

    def run(self, executions: int, seconds: float = float("inf")) -> Iterator[Progress]:
        """Go on until a bound is reached; gives the same progress each second, and at last."""
        progress, begin, told = self.progress, time.monotonic(), 0.0
        with _alarm():
            while progress.executions < executions and progress.seconds < seconds:
                self._step()
                if progress.executions % _CHECK_EVERY == 0:
                    progress.seconds = time.monotonic() - begin
                    if progress.seconds - told > 1:
                        told = progress.seconds
                        yield progress
        progress.seconds = time.monotonic() - begin
        yield progress

    def _step(self) -> None:
        content = self._input()
        is_watched = self.progress.executions % _WATCH_EVERY == 0
        signal.setitimer(signal.ITIMER_VIRTUAL, self._hang_seconds)
        try:
            with self._coverage.watching() if is_watched else nullcontext():
                error = refusal(self._target, content)
            kind = _places(error) if error else ()
        except Exception as error:  # which is what is looked for
            kind = _places(error)
            if kind not in self._kinds:
                self.progress.crashes.append(Crash(content, traceback.format_exc()))
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.progress.executions += 1
        self.progress.accepted += not kind
        self._learn(content, kind)

    def _learn(self, content: bytes, kind: Kind) -> None:
        """Keep an input that went where none went before."""
        progress = self.progress
        if len(self._coverage) > progress.lines or (kind and kind not in self._kinds):
            self._corpus.add(content)
            self._kinds.add(kind)
            progress.kinds = len(self._kinds - {()})
            progress.lines = len(self._coverage)

    def _input(self) -> bytes:
        """A seed, or what was found since, changed by its structure, by its bytes or by both."""
        chance = self._rng.random
        start = (self._seeds if chance() < 0.5 else self._corpus).draw(self._rng)
        if self._target.change and chance() < 0.6:
            changed = self._target.change(self._rng, start)
            if changed is not None and chance() < 0.8:
                return changed
            start = changed or start
        return self._mutator.mutate(start, self._corpus.draw(self._rng))


def refusal(target: Target, content: bytes) -> ServingError | None:
    """How `content` was refused, None if it was accepted; raises what must not happen."""
    try:
        target.decode(content)
    except ServingError as error:
        if error.code is Code.INTERNAL:
            raise
        return error
    return None


def _places(error: BaseException) -> Kind:
    """The innermost lines of code that an error was raised through."""
    lines: list[tuple[CodeType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_code, trace.tb_lineno))
        trace = trace.tb_next
    return tuple(lines[-_INNERMOST:])


@contextmanager
def _alarm() -> Iterator[None]:
    """While it lasts, the timer of the processor's time raises Hang."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)
