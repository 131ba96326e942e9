"""Texts of classes, as a data set of their tokens."""

import numpy as np
from tokenizers import Tokenizer

from training.data import tokens
from training.data.dataset import Dataset

# Texts, and the number of each one's label.
Rows = tuple[list[str], list[int]]


def dataset(
    name: str, train: Rows, test: Rows, labels: tuple[str, ...], tokenizer: Tokenizer
) -> Dataset:
    """The set of that name, its texts cut by `tokenizer`."""

    def encoded(rows: Rows) -> tokens.Part:
        texts, numbers = rows
        return tokens.encode(tokenizer, texts), np.array(numbers, np.int64)

    return tokens.dataset(name, encoded(train), encoded(test), tokenizer, labels)
