"""A thread of its own for each execution slot."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

S = TypeVar("S")


class Worker(Generic[S]):
    """Runs tasks one after the other in one thread, to which whatever `slot` is may be bound.

    Half the hand-off time of a thread pool, and no thread has to be found once requests wait.
    `idle_since` is when its last batch had run, for whoever has it run them.
    """

    def __init__(self, index: int, slot: S, name: str) -> None:
        self.index = index
        self.slot = slot
        self.idle_since = 0
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
        while (task := self._tasks.get()) is not None:
            task()
            del task  # While waiting for the next batch, keep nothing of the last one alive.
