"""Changes inputs so that they stay close to what a decoder expects, and are not."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

_MOST_CHANGES: Final = 4
_LONGEST: Final = 4096
_NUMBER: Final = re.compile(rb"-?\d+")
_NUMBERS: Final = (
    *(b"0", b"-1", b"1", b"2", b"3", b"255", b"256", b"65536", b"1e400", b"-0.0", b"1.5"),
    *(str(2**bits + change).encode() for bits in (31, 32, 63, 64) for change in (-1, 0, 1)),
    b"9" * 40,
)
_BYTES: Final = (0, 1, 2, 0x20, 0x22, 0x2D, 0x5B, 0x5C, 0x5D, 0x7B, 0x7D, 0x7F, 0x80, 0xC3, 0xFF)


class Mutator:
    """Changes inputs at random; the same `rng` makes the same changes.

    `words` are what the decoder looks for: keys, types, brackets.
    """

    def __init__(self, rng: random.Random, words: Sequence[bytes]) -> None:
        self._rng = rng
        self._words = words
        self._changes: tuple[Callable[[bytes, bytes], bytes], ...] = (
            self._flip,
            self._overwrite,
            self._insert_word,
            self._replace_with_word,
            self._replace_number,
            self._remove,
            self._repeat,
            self._splice,
        )

    def mutate(self, data: bytes, other: bytes) -> bytes:
        """`data` after one to four changes, some of which may take a piece of `other`."""
        for _ in range(self._rng.randint(1, _MOST_CHANGES)):
            data = self._rng.choice(self._changes)(data, other)
        return data[:_LONGEST]

    def _flip(self, data: bytes, other: bytes) -> bytes:
        if not data:
            return other
        at = self._place(data)
        return data[:at] + bytes([data[at] ^ 1 << self._rng.randrange(8)]) + data[at + 1 :]

    def _overwrite(self, data: bytes, other: bytes) -> bytes:
        if not data:
            return other
        at = self._place(data)
        return data[:at] + bytes([self._rng.choice(_BYTES)]) + data[at + 1 :]

    def _insert_word(self, data: bytes, other: bytes) -> bytes:
        at = self._rng.randint(0, len(data))
        return data[:at] + self._rng.choice(self._words) + data[at:]

    def _replace_with_word(self, data: bytes, other: bytes) -> bytes:
        start, end = self._range(data)
        return data[:start] + self._rng.choice(self._words) + data[end:]

    def _replace_number(self, data: bytes, other: bytes) -> bytes:
        numbers = list(_NUMBER.finditer(data))
        if not numbers:
            return self._insert_word(data, other)
        number = self._rng.choice(numbers)
        return data[: number.start()] + self._rng.choice(_NUMBERS) + data[number.end() :]

    def _remove(self, data: bytes, other: bytes) -> bytes:
        start, end = self._range(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes, other: bytes) -> bytes:
        start, end = self._range(data)
        return data[:end] + data[start:end] * self._rng.randint(1, 3) + data[end:]

    def _splice(self, data: bytes, other: bytes) -> bytes:
        start, end = self._range(data)
        first, last = self._range(other)
        return data[:start] + other[first:last] + data[end:]

    def _place(self, data: bytes) -> int:
        return self._rng.randrange(len(data))

    def _range(self, data: bytes) -> tuple[int, int]:
        """A piece of `data`, mostly a short one."""
        start = self._rng.randint(0, len(data))
        longest = self._rng.choice((2, 8, 64))
        return start, self._rng.randint(start, min(len(data), start + longest))
