"""Every data set of the catalog in a few samples: whole where it needs no file, else made up to the
contract of the real one, which the tests of the data sets hold the real one to."""

from dataclasses import dataclass

import numpy as np
from tokenizers.normalizers import Normalizer

from training.catalog import load_dataset
from training.data import (
    ag_news,
    cifar10,
    cifar10_pair,
    ett,
    fashion_mnist,
    imdb,
    mnist_latent,
    multi30k,
    shakespeare,
    sst2,
    tokens,
)
from training.data.dataset import Array, Dataset
from training.spec import UNCHANGED, Normalisation, TensorField

BUNDLED = ("breast-cancer", "corner4x4", "digits")
TRAIN, TEST = 300, 100


@dataclass(frozen=True, slots=True)
class Contract:
    field: TensorField
    normalisation: Normalisation
    labels: tuple[str, ...]
    target: tuple[int, ...] = ()  # shape of one, where it is no label
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    """What a data set of texts is made by."""

    labels: tuple[str, ...]
    normalizer: Normalizer
    length: int


TEXTS = {
    "ag-news": Texts(ag_news.LABELS, ag_news.NORMALIZER, ag_news.LENGTH),
    "imdb": Texts(imdb.LABELS, imdb.NORMALIZER, imdb.LENGTH),
    "sst2": Texts(sst2.LABELS, sst2.NORMALIZER, sst2.LENGTH),
}
PIXELS = TensorField("image", "UINT8", (1, 28, 28))
GREY = Normalisation(1 / 255, (0.1307,), (0.3081,))
CONTRACTS = {
    "cifar10": Contract(
        TensorField("image", "UINT8", (3, 32, 32)), cifar10.NORMALISATION, cifar10.LABELS
    ),
    "cifar10-pair": Contract(
        TensorField("image", "UINT8", (3, 64, 64)), cifar10_pair.NORMALISATION, cifar10_pair.LABELS
    ),
    "etth1": Contract(
        TensorField("past", "FP32", (96, 7)),
        Normalisation(1.0, (7.0, 2.0, 5.0, 0.5, 3.0, 0.8, 13.0), (5.0, 2.0, 6.0, 2, 1, 0.6, 8), 2),
        (),
        (24, 7),
        ett.COLUMNS,
    ),
    "fashion-mnist": Contract(
        PIXELS, Normalisation(1 / 255, (0.2860,), (0.3530,)), fashion_mnist.LABELS
    ),
    "mnist": Contract(PIXELS, GREY, tuple("0123456789")),
    "mnist-denoising": Contract(PIXELS, GREY, (), (1, 28, 28)),
    "mnist-latent": Contract(
        TensorField("latent", "FP32", (mnist_latent.LATENT,)), UNCHANGED, (), (1, 28, 28)
    ),
}


def tiny(name: str) -> Dataset:
    """Its inputs are random; where it has labels, they tell by their brightness which is whose."""
    if name in BUNDLED:
        return load_dataset(name)
    random = np.random.default_rng(0)
    if name in TEXTS:
        return _texts(name, TEXTS[name], random)
    if name == "tiny-shakespeare":
        return _plays(random)
    if name == "multi30k":
        return _captions(random)
    contract = CONTRACTS[name]
    (train_x, train_y), (test_x, test_y) = (
        _samples(contract, count, random) for count in (TRAIN, TEST)
    )
    return Dataset(
        name=name,
        train_x=train_x,
        train_y=train_y,
        test_x=test_x,
        test_y=test_y,
        labels=contract.labels,
        field=contract.field,
        normalisation=contract.normalisation,
        columns=contract.columns,
    )


def _texts(name: str, by: Texts, random: np.random.Generator) -> Dataset:
    """Of one to twenty words, of which the label's name is one."""
    y = np.arange(TRAIN + TEST) % len(by.labels)
    filler = ["a", "film", "of", "note", "and", "the", "year"]
    texts = [
        " ".join([*random.choice(filler, random.integers(0, 20)), by.labels[label]]) for label in y
    ]
    tokenizer = tokens.learn(texts[:TRAIN], by.normalizer, 100, by.length)
    x = tokens.encode(tokenizer, texts)
    return Dataset(
        name=name,
        train_x=x[:TRAIN],
        train_y=y[:TRAIN],
        test_x=x[TRAIN:],
        test_y=y[TRAIN:],
        labels=by.labels,
        field=TensorField("input_ids", "INT64", (-1,)),
        normalisation=UNCHANGED,
        tokenizer=tokenizer.to_str(),
    )


def _plays(random: np.random.Generator) -> Dataset:
    """Windows of eight characters of no sense, of as many kinds as in the plays."""
    tokenizer = shakespeare.characters(map(chr, range(32, 32 + 65)))
    ids = random.integers(0, 65, (TRAIN + TEST, 9))
    return Dataset(
        name="tiny-shakespeare",
        train_x=ids[:TRAIN, :-1],
        train_y=ids[:TRAIN, 1:],
        test_x=ids[TRAIN:, :-1],
        test_y=ids[TRAIN:, 1:],
        labels=(),
        field=TensorField("input_ids", "INT64", (-1,)),
        normalisation=UNCHANGED,
        tokenizer=tokenizer.to_str(),
    )


def _captions(random: np.random.Generator) -> Dataset:
    """Four to six words, and the same words in another language."""
    words = {"Hund": "dog", "Mann": "man", "Ball": "ball", "rot": "red"}
    german = [
        " ".join(random.choice(list(words), random.integers(4, 7))) for _ in range(TRAIN + TEST)
    ]
    english = [" ".join(words[word] for word in text.split()) for text in german]
    tokenizer = multi30k.learn([*german, *english])
    tokenizer.enable_truncation(8)
    x, y = multi30k.encode(tokenizer, (german, english))
    return Dataset(
        name="multi30k",
        train_x=x[:TRAIN],
        train_y=y[:TRAIN],
        test_x=x[TRAIN:],
        test_y=y[TRAIN:],
        labels=(),
        field=TensorField("input_ids", "INT64", (-1,)),
        normalisation=UNCHANGED,
        tokenizer=tokenizer.to_str(),
    )


def _samples(contract: Contract, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    pixels = contract.field.datatype == "UINT8"
    dtype = np.uint8 if pixels else np.float32
    x = random.uniform(0, 25, (count, *contract.field.shape))
    if contract.target:
        target = random.uniform(0, 25, (count, *contract.target))
        return x.astype(dtype), target.astype(np.uint8 if len(contract.target) == 3 else dtype)
    y = np.arange(count) % len(contract.labels)
    lift = (200 * y / len(contract.labels)).reshape(-1, *(1,) * len(contract.field.shape))
    return (x + lift).astype(dtype), y.astype(np.int64)
