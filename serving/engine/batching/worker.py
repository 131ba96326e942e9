"""A thread of its own for each execution slot."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from serving.threads import give_way

S = TypeVar("S")


class Worker(Generic[S]):
    """Runs tasks one after the other in one thread, to which whatever `slot` is may be bound.

    Half the hand-off time of a thread pool, and no thread has to be found once requests wait.
    `idle_since` is when its last batch had run, for whoever has it run them. With `gives_way` its
    tasks take so long that other threads go before it: several such would keep the event loop from
    a processor that they share, one after the other, for all that it has to do.
    """

    def __init__(self, index: int, slot: S, name: str, gives_way: bool = False) -> None:
        self.index = index
        self.slot = slot
        self.idle_since = 0
        self._gives_way = gives_way
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon, lest a program that was not closed properly never ends.
        self._thread = threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
        self._thread.start()

    def run(self, task: Callable[[], None]) -> None:
        """Have `task` run in the thread; it must not raise."""
        self._tasks.put(task)

    def stop(self) -> None:
        """End the thread after the tasks it has; blocks until then."""
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        if self._gives_way:
            give_way()
        while (task := self._tasks.get()) is not None:
            task()
            del task  # While waiting for the next batch, keep nothing of the last one alive.
