"""What clients change beside models, and must find the same in all workers: logs, traces, regions.

A change is the name of what changes, and its values. The engine's process is where all come
together: it applies a change to its own, and then has all workers apply it, before it is answered.
"""

import asyncio
import logging
import marshal
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from serving.errors import ServingError
from serving.workers import records
from serving.workers.ledger import Ledger

logger = logging.getLogger("penstock.workers")

# As plain values.
Change: TypeAlias = list[Any]
Follower: TypeAlias = Callable[[Change], Awaitable[None]]

_FORMAT: Final = 2


class Sharing:
    """The changes of all workers, in one order; to be used on one event loop.

    `apply` is how this process makes one; `ledger` is where they are found after a new start.
    """

    def __init__(self, apply: Callable[..., None], ledger: Ledger) -> None:
        self._apply = apply
        self._ledger = ledger
        self._followers: set[Follower] = set()
        # What makes a new process like the others: the last of what replaces each other.
        self._changes: dict[tuple[str, str], Change] = {}
        content = ledger.read()
        for change in marshal.loads(content) if content else ():
            make(self._apply, change)
            self._remember(change)

    @property
    def changes(self) -> list[Change]:
        """What a new worker must make to be like the others."""
        return list(self._changes.values())

    def add(self, follower: Follower) -> None:
        """Have `follower` told of every change from now on; it returns once it has made it."""
        self._followers.add(follower)

    def discard(self, follower: Follower) -> None:
        """Tell it no more."""
        self._followers.discard(follower)

    async def change(self, *change: Any) -> None:
        """Make a change, here and everywhere; ServingError where it makes no sense."""
        self._apply(*records.from_plain(list(change)))
        self._remember(list(change))
        self._ledger.write(marshal.dumps(self.changes, _FORMAT))
        await asyncio.gather(*(follower(list(change)) for follower in self._followers))

    async def adopt(self, *change: Any) -> None:
        """Make a change that another engine's process has written down."""
        make(self._apply, list(change))

    def _remember(self, change: Change) -> None:
        what, first, *_ = change
        if what == "unregister":
            for _, name in [key for key in self._changes if key[0] == "register"]:
                if first in ("", name):
                    del self._changes["register", name]
            return
        # Settings of logs are one thing, those of traces are of a model each, regions have names.
        key = (what, "" if what == "logs" else first)
        if what != "register" and key in self._changes:
            *rest, before = self._changes[key]
            change = [*rest, {**before, **change[-1]}]
        self._changes[key] = change


def make(apply: Callable[..., None], change: Change) -> None:
    """Make a change that was made elsewhere, as far as it can be made here."""
    try:
        apply(*records.from_plain(change))
    except ServingError as error:
        logger.debug("not made once more: %s", error.message)
