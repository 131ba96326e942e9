"""Multi30k: captions of photographs, 29,000 to train and 1,000 to test, from German to English."""

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from training.data import tokens
from training.data.dataset import Array, Dataset
from training.data.files import fetch
from training.data.remote import RemoteFile
from training.errors import DataError
from training.tokens import END, PADDING, START

_URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"


def _file(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, size, sha256, (_URL + name,))


# German, then English; line by line one is the translation of the other.
TRAIN = (
    _file(
        "train.de.gz", 637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"
    ),
    _file(
        "train.en.gz", 568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"
    ),
)
TEST = (
    _file(
        "test_2016_flickr.de.gz",
        22_890,
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    ),
    _file(
        "test_2016_flickr.en.gz",
        21_077,
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    ),
)

VOCABULARY = 4000  # of both languages together
LENGTH = 64  # tokens, more than any of these captions has
SPECIAL = (*tokens.SPECIAL, "<s>", "</s>")  # START and END say which the last two are

Pairs = tuple[list[str], list[str]]


def load(data_dir: Path | None = None) -> Dataset:
    train, test = read(TRAIN, data_dir), read(TEST, data_dir)
    tokenizer = learn(line for language in train for line in language)
    pairs = encode(tokenizer, train), encode(tokenizer, test)
    return tokens.dataset("multi30k", *pairs, tokenizer)


def read(files: tuple[RemoteFile, RemoteFile], data_dir: Path | None = None) -> Pairs:
    """The lines of both files; DataError where they are not as many."""
    german, english = (
        gzip.decompress(fetch("multi30k", file, data_dir).read_bytes()).decode().splitlines()
        for file in files
    )
    if len(german) != len(english):
        raise DataError(f"{files[0].name}: {len(german)} lines, but {len(english)} translations")
    return german, english


def learn(lines: Iterable[str]) -> Tokenizer:
    """A tokeniser of both languages: pairs of bytes, so that there is no text it cannot read, and
    what it writes is the very text that it has read."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = Sequence([NFC(), Replace(Regex(r"\s+"), " "), Strip()])
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


def encode(tokenizer: Tokenizer, pairs: Pairs) -> tuple[Array, Array]:
    """German texts (N, S), and English ones (N, T) from START to END, both padded on the right."""
    german, english = (tokens.encode(tokenizer, lines) for lines in pairs)
    target = np.pad(english, ((0, 0), (1, 1)), constant_values=PADDING)
    target[:, 0] = START
    target[np.arange(len(target)), np.count_nonzero(target, axis=1)] = END
    return german, target
