"""Tiny Shakespeare: 1.1 million characters of the plays, to learn what comes next."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from training.data import tokens
from training.data.dataset import Dataset
from training.data.files import fetch
from training.data.remote import RemoteFile
from training.errors import DataError

FILE = RemoteFile(
    "input.txt",
    1_115_394,
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
)
HELD_OUT = 0.1  # the end of the text, as everybody has it
LENGTH = 128  # characters of a window
STRIDE = 64  # from one training window to the next: each character is met at two places of them
OVERLAP = LENGTH // STRIDE  # windows before one that share a character with it, or with its targets

Ids = npt.NDArray[np.int64]


def load(data_dir: Path | None = None) -> Dataset:
    text = fetch("tiny-shakespeare", FILE, data_dir).read_text("ascii")
    tokenizer = characters(text)
    ids = np.array(tokenizer.encode(text).ids, np.int64)
    train, test = split(ids)
    parts = windows(train, STRIDE), windows(test, LENGTH)
    return replace(tokens.dataset("tiny-shakespeare", *parts, tokenizer), overlap=OVERLAP)


def characters(text: Iterable[str]) -> Tokenizer:
    """A tokeniser whose tokens are the characters of `text`, numbered in their own order."""
    vocabulary = {character: number for number, character in enumerate(sorted(set(text)))}
    tokenizer = Tokenizer(WordLevel(vocabulary))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = Fuse()
    return tokenizer


def split(ids: Ids) -> tuple[Ids, Ids]:
    """What is trained on, and the end of the text, which is held out."""
    start = int(len(ids) * (1 - HELD_OUT))
    return ids[:start], ids[start:]


def windows(ids: Ids, stride: int) -> tuple[Ids, Ids]:
    """Windows of LENGTH characters (N, LENGTH), one every `stride`, and the character that follows
    each of theirs, of the same shape. What is left at the end is no whole window and left out."""
    if len(ids) <= LENGTH:
        raise DataError(f"{FILE.name}: {len(ids)} characters are too few for a window of {LENGTH}")
    starts = np.arange(0, len(ids) - LENGTH, stride)
    places = starts[:, None] + np.arange(LENGTH)
    return ids[places], ids[places + 1]
