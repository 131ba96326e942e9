"""A step of a batch: the graph, the cache and the choice of the next tokens."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from serving.engine.backends.generation import GenerationSession
from serving.engine.generation.generation import Generation
from serving.types import Array

# Prompts are read in pieces of as many tokens, the last one padded: a text must not come out
# otherwise for the company in which its prompt was read.
_PIECE: Final = 32


@dataclass(frozen=True, slots=True)
class Step:
    """What a step has chosen, a token for each row in order; how long it took, in nanoseconds.

    `reading` is the part in which a prompt was read, `writing` the one that all others shared.
    """

    tokens: list[int]
    reading: int
    writing: int


class Decoder:
    """Takes the steps of one batch, one at a time, in any thread."""

    def __init__(self, session: GenerationSession, slots: int) -> None:
        self._session = session
        self._cache = session.cache(slots)
        self._piece = min(_PIECE, session.context)

    def move(self, source: int, target: int) -> None:
        """Let the row `target` go on as `source`."""
        self._cache.move(source, target)

    def step(self, members: Sequence[Generation], newcomer: bool) -> Step:
        """The next token of each of `members`, whose rows are the first ones, in order.

        Of a `newcomer`, which is the last of them, the prompt is read. Raises Internal if the
        execution fails.
        """
        begin = time.monotonic_ns()
        writers = members[:-1] if newcomer else members
        tokens = self._write(writers) if writers else []
        written = time.monotonic_ns()
        if newcomer:
            tokens.append(members[-1].sampler.choose(self._read(members[-1], len(writers))))
        return Step(tokens, time.monotonic_ns() - written, written - begin)

    def _write(self, members: Sequence[Generation]) -> list[int]:
        ids = np.array([[member.last] for member in members], np.int64)
        positions = np.array([member.position for member in members], np.int64)
        logits = self._session.step(ids, positions, self._cache, slice(0, len(members)), 1)
        return [member.sampler.choose(row) for member, row in zip(members, logits, strict=True)]

    def _read(self, member: Generation, row: int) -> Array:
        """The logits [vocabulary] of what follows the prompt."""
        logits = np.empty((1, 0), np.float32)
        slots = slice(row, row + 1)
        for start in range(0, len(member.prompt), self._piece):
            real = member.prompt[start : start + self._piece]
            ids = np.zeros((1, self._piece), np.int64)
            ids[0, : len(real)] = real
            logits = self._session.step(ids, np.array([start]), self._cache, slots, len(real))
        found: Array = logits[0]
        return found
