"""Texts of classes, as a data set of their tokens."""

import numpy as np
from tokenizers import Tokenizer

from training.data import tokens
from training.data.dataset import Dataset
from training.spec import UNCHANGED, TensorField

# Texts, and the number of each one's label.
Rows = tuple[list[str], list[int]]


def dataset(
    name: str, train: Rows, test: Rows, labels: tuple[str, ...], tokenizer: Tokenizer
) -> Dataset:
    """The set of that name, its texts cut by `tokenizer`."""
    return Dataset(
        name=name,
        train_x=tokens.encode(tokenizer, train[0]),
        train_y=np.array(train[1], np.int64),
        test_x=tokens.encode(tokenizer, test[0]),
        test_y=np.array(test[1], np.int64),
        labels=labels,
        field=TensorField("input_ids", "INT64", (-1,)),
        normalisation=UNCHANGED,
        tokenizer=tokenizer.to_str(),
    )
