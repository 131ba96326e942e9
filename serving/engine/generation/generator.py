"""Continuous batching: texts join and leave between two steps of one batch that never ends.

Everything but the steps happens on the event loop. A step costs one hop to a worker thread and one
back, however many texts it goes on with; in between those that are over leave, and one that waits
joins, whose prompt is read in the step that follows.
"""

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from serving.engine.batching.entries import Entry
from serving.engine.batching.queue import BatchQueue
from serving.engine.generation.decoder import Decoder, Step
from serving.engine.generation.generation import Generation
from serving.engine.generation.rows import Rows
from serving.errors import Internal, ServingError, Unavailable
from serving.threads import give_way

logger = logging.getLogger("penstock.generation")

# How much the latest text counts for how long texts have a row.
_WEIGHT: Final = 0.1


class Generator:
    """Writes the texts of one model version, up to `limit` at a time; for the event loop.

    `queue`    who waits, and for how long; of no other use
    `decode`   the text of a token
    `on_step`  told of each step with the number of its rows
    `on_fault` told of each step that failed
    `clock`    monotonic nanoseconds
    """

    def __init__(
        self,
        decoder: Decoder,
        limit: int,
        queue: BatchQueue[Generation],
        decode: Callable[[list[int]], str],
        *,
        on_step: Callable[[int, Step], object] = lambda rows, step: None,
        on_fault: Callable[[ServingError], object] = lambda error: None,
        clock: Callable[[], int] = time.monotonic_ns,
        name: str = "generator",
    ) -> None:
        self._decoder = decoder
        self._limit = limit
        self._stay: float | None = None  # nanoseconds that a text has a row
        self._rows: Rows[Generation] = Rows(limit)
        self._queue = queue
        self._decode = decode
        self._on_step = on_step
        self._on_fault = on_fault
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, name, initializer=give_way)
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Texts that have no row yet."""
        return len(self._queue)

    @property
    def wait(self) -> int:
        """Nanoseconds until a text that came now would have a row, as far as is known.

        While no text is over yet, the oldest in hand stands for how long they take.
        """
        if self._rows.has_room and not self._queue:
            return 0
        now = self._clock()
        stay = self._stay
        if stay is None:
            stay = max((now - member.joined_at for member in self._rows), default=0)
        return int(stay * (len(self._queue) + 1) / self._limit)

    def begin(
        self,
        generation: Generation,
        *,
        deadline: int | None = None,
        queue_timeout: int = 0,
        priority: int = 0,
    ) -> None:
        """Let `generation` wait for a row; see `Entry` for the arguments.

        Raises Overloaded if the queue is full, Unavailable once closing. What comes later, such as
        DeadlineExceeded, is the generation's failure.
        """
        if self._closing:
            raise Unavailable("the model is being unloaded and accepts no more requests")
        now = self._clock()
        self._queue.push(Entry(generation, 1, None, now, deadline, queue_timeout, priority))
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def abandon(self, generation: Generation) -> None:
        """Nobody waits for it: its row is free at the next step, if it has one."""
        generation.abandon()
        self._queue.discard(generation)

    async def close(self) -> None:
        """Refuse new texts, write those that are accepted, end the thread."""
        self._closing = True
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        """Step by step, as long as there is anything to write."""
        loop = asyncio.get_running_loop()
        while True:
            has_newcomer = self._arrange()
            members = list(self._rows)
            if not members:
                break
            try:
                step = await loop.run_in_executor(
                    self._thread, self._decoder.step, members, has_newcomer
                )
                self._apply(members, step)
            except Exception as error:
                self._fail(error)
        self._task = None

    def _arrange(self) -> bool:
        """Let leave who is over, and join who is next; whether anybody has joined."""
        now = self._clock()
        for row, member in reversed(list(enumerate(self._rows))):
            if not member.is_over:
                continue
            self._learn(now - member.joined_at)
            if (last := self._rows.leave(row)) != row:
                self._decoder.move(last, row)
        for refused, error in self._queue.expire(now):
            refused.item.fail(error)
        if not self._rows.has_room:
            return False
        entries, _ = self._queue.take(now)
        for entry in entries:
            entry.item.queue = now - entry.at
            entry.item.joined_at = now
            self._rows.join(entry.item)
        return bool(entries)

    def _learn(self, stay: int) -> None:
        """A text had a row for so many nanoseconds."""
        known = stay if self._stay is None else self._stay
        self._stay = known + _WEIGHT * (stay - known)

    def _apply(self, members: list[Generation], step: Step) -> None:
        for member, token in zip(members, step.tokens, strict=True):
            is_newcomer = not member.reading
            member.reading += step.reading if is_newcomer else 0
            member.writing += 0 if is_newcomer else step.writing
            if not member.is_over:
                member.add(token, self._decode([token]))
        self._on_step(len(members), step)

    def _fail(self, error: Exception) -> None:
        """A step has failed: so have all texts that were part of it."""
        if not isinstance(error, ServingError):
            logger.error("a step of %d texts failed", len(self._rows), exc_info=error)
            error = Internal(f"inference failed: {error!r}")
        self._on_fault(error)
        for member in self._rows.clear():
            # A copy each: raising one object in several tasks would mix up their tracebacks.
            member.fail(copy.copy(error))
