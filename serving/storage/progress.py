"""How far fetching is: bars on a terminal, where rich is installed; else lines."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol, TypeAlias

_EVERY_SECONDS: Final = 10.0

# To be called with the number of bytes that came, by any thread.
Advance: TypeAlias = Callable[[int], None]


class Progress(Protocol):
    """Tells of fetches; of several at a time."""

    def of(self, what: str, size: int) -> AbstractContextManager[Advance]:
        """Tell of `what`, of `size` bytes, while the block fetches it."""


class Lines:
    """A line as a fetch begins, every ten seconds, and as it ends; `say` writes a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    @contextmanager
    def of(self, what: str, size: int) -> Iterator[Advance]:
        """As Progress has it."""
        lock = threading.Lock()
        begin = told = time.monotonic()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, told
            with lock:
                done += count
                now = time.monotonic()
                if now - told >= _EVERY_SECONDS:
                    told = now
                    self._say(f"fetching {what}: {in_units(done)} of {in_units(size)}")

        self._say(f"fetching {what}: {in_units(size)}")
        yield advance
        seconds = time.monotonic() - begin
        self._say(f"fetched {what}: {in_units(done)} in {seconds:.1f} s")


class Bars:
    """A bar for each fetch on the terminal that standard error is; `rich` is that package."""

    def __init__(self, rich: Any) -> None:
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.DownloadColumn(),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        console = rich.console.Console(stderr=True)
        self._bars = rich.progress.Progress(*columns, console=console, transient=True)
        self._lock = threading.Lock()
        self._running = 0

    @contextmanager
    def of(self, what: str, size: int) -> Iterator[Advance]:
        """As Progress has it."""
        self._count(1)
        bar = self._bars.add_task(what, total=size)
        try:
            yield lambda count: self._bars.advance(bar, count)
        finally:
            self._bars.remove_task(bar)
            self._count(-1)

    def _count(self, change: int) -> None:
        """The bars are on the terminal while anything is fetched."""
        with self._lock:
            before, self._running = self._running, self._running + change
            if not before:
                self._bars.start()
            elif not self._running:
                self._bars.stop()


def progress(say: Callable[[str], None]) -> Progress:
    """Bars where somebody looks on, else lines."""
    if sys.stderr.isatty():
        try:
            import rich.console
            import rich.progress
        except ImportError:
            return Lines(say)
        return Bars(rich)
    return Lines(say)


def in_units(size: float) -> str:
    """A number of bytes as people read it: 1.2 GB for 1,200,000,000."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"
