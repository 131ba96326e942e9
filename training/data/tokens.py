"""Texts as the numbers of their tokens.

A tokeniser is made of the training texts by the `tokenizers` library, and is kept as the text of
its `tokenizer.json`: who serves a model cuts texts as training did, and needs nothing but that.
"""

import collections.abc
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Metaspace, Sequence
from tokenizers.trainers import BpeTrainer

from training.data.dataset import Array, Dataset
from training.errors import DataError
from training.spec import UNCHANGED, TensorField
from training.tokens import PADDING, UNKNOWN

# The order gives them their numbers; PADDING and UNKNOWN say which these are.
SPECIAL = ("<pad>", "<unk>")

Ids = npt.NDArray[np.int64]
Texts = collections.abc.Sequence[str]
Part = tuple[Ids, Array]  # what a network reads (N, T), and what it shall say of each row


def learn(
    texts: Texts,
    normalizer: Normalizer,
    vocabulary: int,
    length: int,
    keep: Literal["start", "end"] = "start",
) -> Tokenizer:
    """A tokeniser of at most `vocabulary` tokens, which leaves `length` of them of a longer text.

    Words that are no token themselves are put together from several. The same texts give the same
    tokeniser: byte pairs, with a mark where a word begins, do not depend on the order in which a
    hash table yields the words, unlike word pieces, which are marked where they go on."""
    tokenizer = Tokenizer(BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = Sequence([BertPreTokenizer(), Metaspace()])
    trainer = BpeTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.enable_truncation(length, direction="right" if keep == "start" else "left")
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Texts) -> Ids:
    """(N, T): a row for each text, padded on the right to the longest. DataError for a text that
    has no token at all."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
    if not all(rows):
        raise DataError(f"text {rows.index([])} of {len(rows)} has no words")
    ids = np.full((len(rows), max(map(len, rows))), PADDING, np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return ids


def dataset(
    name: str, train: Part, test: Part, tokenizer: Tokenizer, labels: tuple[str, ...] = ()
) -> Dataset:
    """The set of that name, whose tokens `tokenizer` has made."""
    return Dataset(
        name=name,
        train_x=train[0],
        train_y=train[1],
        test_x=test[0],
        test_y=test[1],
        labels=labels,
        field=TensorField("input_ids", "INT64", (-1,)),
        normalisation=UNCHANGED,
        tokenizer=tokenizer.to_str(),
    )
