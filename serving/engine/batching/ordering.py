"""Answers in the order of their requests, whichever instance was done first."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

Future: TypeAlias = "asyncio.Future[Any]"
Answer: TypeAlias = Callable[[], object]


class InOrder:
    """Holds each answer back until every earlier request has one, or nobody who waits for it."""

    def __init__(self) -> None:
        self._line: OrderedDict[Future, Answer | None] = OrderedDict()

    def expect(self, future: Future) -> None:
        """A request has come whose answer will settle `future`."""
        self._line[future] = None

    def settle(self, future: Future, answer: Answer) -> None:
        """Call `answer`, which settles `future`, as soon as it is its turn."""
        if future in self._line:
            self._line[future] = answer
            self.release()

    def release(self) -> None:
        """Go on behind futures that were settled otherwise: by a timeout, or by cancelling."""
        while self._line:
            future, answer = next(iter(self._line.items()))
            if answer is None and not future.done():
                return
            del self._line[future]
            if answer is not None and not future.done():
                answer()
