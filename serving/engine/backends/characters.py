"""The characters that a model knows, by their numbers: a `tokenizer.json` of single characters.

It is read as it is written, without the library that wrote it: a server of such a model needs no
tokeniser.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from serving.errors import InvalidArgument, LoadFailed
from serving.types import Array


class Characters:
    """Text to numbers and back, one for each character."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        """`numbers` are those from 0 on, without a gap."""
        self._numbers = dict(numbers)
        self._characters = sorted(numbers, key=numbers.__getitem__)

    @classmethod
    def read(cls, tokenizer: str, place: str) -> "Characters":
        """From the text of a `tokenizer.json`; LoadFailed, naming `place`, if its tokens are no
        characters."""
        try:
            numbers = json.loads(tokenizer)["model"]["vocab"]
            known = sorted(numbers.values()) == list(range(len(numbers)))
            whole = known and all(len(token) == 1 for token in numbers)
        except (ValueError, TypeError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise LoadFailed(
                f"{place}: is no vocabulary of single characters with the numbers from 0 on "
                "(model.vocab), the only one that texts are generated with"
            )
        return cls(numbers)

    def __len__(self) -> int:
        return len(self._characters)

    @property
    def first(self) -> str:
        """The character with the number 0."""
        return self._characters[0]

    def encode(self, text: str) -> Array:
        """INT64 [characters]; InvalidArgument for a character that the model does not know."""
        try:
            return np.array([self._numbers[character] for character in text], np.int64)
        except KeyError:
            place = next(i for i, character in enumerate(text) if character not in self._numbers)
            raise InvalidArgument(
                f"text_input: character {place} is {text[place]!r}, which the model does not know; "
                f"it knows {len(self)} characters: {''.join(self._characters)!r}"
            ) from None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of these numbers."""
        return "".join(self._characters[token] for token in tokens)
