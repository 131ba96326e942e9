"""What a process cannot recover from, such as a GPU that is lost to it: it has to start anew."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_WATCHERS: Final[list[Callable[[str], None]]] = []


def tell(reason: str) -> None:
    """The process can do no more of its work, for that reason; may be called by any thread."""
    for watcher in tuple(_WATCHERS):
        watcher(reason)


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Have `watcher` told while the block runs, in whichever thread it happens."""
    _WATCHERS.append(watcher)
    try:
        yield
    finally:
        _WATCHERS.remove(watcher)
