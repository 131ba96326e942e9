"""One request on its way: what it was given, what has come of it, and who waits for that."""

import asyncio
from dataclasses import dataclass
from enum import Enum

from serving.engine.generation.sampling import Sampler, Sampling
from serving.engine.generation.text import Text
from serving.types import Array


class FinishReason(Enum):
    """Why a text ends where it does, by the words that other servers use."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Piece:
    """What has come since the last one, of `tokens` tokens in all so far; `finish` of the last."""

    text: str
    tokens: int
    finish: FinishReason | None


class Generation:
    """A text in the making; to be created and used on the event loop, its `sampler` apart.

    `reading` and `writing` are the nanoseconds of the steps in which its prompt was read and its
    text was written, `queue` those it waited until it had a row, which it has since `joined_at`.
    """

    def __init__(self, prompt: Array, sampling: Sampling) -> None:
        """`prompt` is INT64 [tokens], of at least one."""
        self.prompt = prompt
        self.sampling = sampling
        self.sampler = Sampler(sampling)
        self.position = 0  # of the token that is read next
        self.last = int(prompt[-1])  # that token, once the prompt is read
        self.queue = self.reading = self.writing = self.joined_at = 0
        self._text = Text(sampling.stop)
        self._tokens = 0
        self._fresh = ""
        self._finish: FinishReason | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        self._news = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether it needs no further step."""
        return self._abandoned or self._finish is not None or self._error is not None

    def add(self, token: int, piece: str) -> None:
        """The next token, and the text that it is."""
        self.position += 1 if self._tokens else len(self.prompt)
        self.last = token
        self._tokens += 1
        self._fresh += self._text.add(piece)
        if self._text.stopped:
            self._finish = FinishReason.STOP
        elif self._tokens == self.sampling.max_tokens:
            self._fresh += self._text.finish()
            self._finish = FinishReason.LENGTH
        if self._fresh or self._finish:
            self._news.set()

    def fail(self, error: BaseException) -> None:
        """No more will come, because of `error`, which is its own."""
        self._error = error
        self._news.set()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._abandoned = True

    async def next(self) -> Piece:
        """All that has come since the last piece, once there is anything; raises what it failed by.

        Whoever asks rarely gets larger pieces, rather than more of them that wait.
        """
        await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error
        fresh, self._fresh = self._fresh, ""
        return Piece(fresh, self._tokens, self._finish)

    async def whole(self) -> Piece:
        """All of it, once it is over."""
        text = ""
        while True:
            piece = await self.next()
            text += piece.text
            if piece.finish is not None:
                return Piece(text, piece.tokens, piece.finish)
