"""Texts as people write them, and the numbers of tokens that a model takes, or gives, in their
place."""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from serving.errors import InvalidArgument, LoadFailed, Malformed, Unsupported
from serving.types import Array, Tensor, TensorSpec
from serving.wire import json_text
from serving.wire.fields import fault

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEYS: Final = ("text", "inputs")
# Inputs by the names that models of texts give them.
IDS: Final = "input_ids"
MASK: Final = "attention_mask"
BEAMS: Final = "beams"  # hypotheses that the search for a translation keeps
# Texts are padded to a power of two, so that those of like length share batches.
SHORTEST: Final = 8
# Of all texts of a request. It takes a second to find the words of that many characters, of which
# a model reads the first few hundred of each text; and an empty text takes time as well.
MAX_CHARACTERS: Final = 1_000_000
MAX_TEXTS: Final = 4096
_KEPT: Final = 64  # tokenisers that are ready
_NO_TOKEN: Final = 2**32 - 1  # the largest number that tokenisers look up, which has no token


def from_plain(files: Sequence[tuple[str, bytes]]) -> list[str]:
    """Each file, or body, as one text; with what to call it. Malformed if it is not UTF-8."""
    return [_plain(*file) for file in files]


def _plain(where: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"{where}: byte {error.start} is not UTF-8") from None


def from_json(body: bytes) -> list[str]:
    """The texts in `body`: one, or a list of them, bare or under the key `text` or `inputs`; the
    elements of a list may be objects with that key as well. Raises InvalidArgument."""
    document = json_text.loads(body)
    where, data = _opened(document, "body")
    texts = [_opened(each, where)[1] for each in data] if type(data) is list else [data]
    if not texts or any(type(text) is not str for text in texts):
        raise fault(where, "a text or a list of texts", document)
    return texts


def _opened(data: Any, where: str) -> tuple[str, Any]:
    """What an object holds under its only key, with that key; anything else as it is."""
    if type(data) is not dict:
        return where, data
    if len(data) != 1 or (key := next(iter(data))) not in KEYS:
        raise fault(where, 'an object such as {"text": "..."}', data)
    return key, data[key]


def tokenise(
    texts: Sequence[str], tokenizer: str, inputs: Sequence[TensorSpec], beams: int = 1
) -> tuple[Tensor, ...]:
    """`inputs` of a model for these texts, a row each (B, T), padded on the right; and (B, 1) where
    a model asks for `beams`.

    `tokenizer` is the text of a `tokenizer.json`. Raises InvalidArgument for texts that are too
    many, too long or of which nothing is left, and for inputs that are not numbers of tokens and
    their mask; LoadFailed for a tokeniser that cannot be read; Unsupported without the library.
    """
    _check_inputs(inputs)
    _check_sizes(texts)
    rows = [each.ids for each in _ready(tokenizer).encode_batch_fast(list(texts))]
    if [] in rows:
        raise InvalidArgument(f"text {rows.index([])} holds no word")
    ids, mask = _padded(rows)
    arrays = {IDS: ids, MASK: mask, BEAMS: np.full((len(rows), 1), beams)}
    return tuple(
        Tensor(spec.name, spec.datatype, arrays[spec.name].astype(spec.datatype.numpy))
        for spec in inputs
    )


def written(ids: Array, tokenizer: str) -> list[str]:
    """The texts (B,) of numbers of tokens (B, T), without the tokens that mark an end or padding,
    and without numbers of no token. Raises as `tokenise` does of a tokeniser."""
    numbers = ids.astype(np.int64)  # of larger ones negative numbers
    numbers[(numbers < 0) | (numbers > _NO_TOKEN)] = _NO_TOKEN
    texts: list[str] = _ready(tokenizer).decode_batch(numbers.tolist())
    return texts


def bucket(length: int) -> int:
    """To how many tokens a text of `length` is padded."""
    return max(SHORTEST, 1 << (length - 1).bit_length())


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    ids = np.zeros((len(rows), bucket(max(map(len, rows)))), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask


def _check_sizes(texts: Sequence[str]) -> None:
    if len(texts) > MAX_TEXTS:
        raise InvalidArgument(f"{len(texts)} texts; at most {MAX_TEXTS} are read at a time")
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise InvalidArgument(
            f"the texts have {characters} characters; at most {MAX_CHARACTERS} are read at a time"
        )


def _check_inputs(inputs: Sequence[TensorSpec]) -> None:
    names = {spec.name for spec in inputs}
    whole = all(not spec.datatype.is_float and len(spec.dims) == 2 for spec in inputs)
    if not whole or not {IDS} <= names <= {IDS, MASK, BEAMS}:
        raise InvalidArgument(
            f"a text becomes whole numbers [rows, length] called {IDS} and {MASK}; this model "
            f"takes {', '.join(f'{spec.name} {spec.datatype.wire}' for spec in inputs)}"
        )


@lru_cache(_KEPT)
def _ready(tokenizer: str) -> "Tokenizer":
    # Read when the library is loaded: models and requests have their threads already.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise Unsupported(
            "this server reads no texts, since it lacks a library: pip install 'penstock[text]'"
        ) from None
    try:
        return Tokenizer.from_str(tokenizer)
    except Exception as error:  # the library raises nothing narrower
        raise LoadFailed(f"the model's tokenizer.json cannot be read: {error}") from None
