"""The tables of what can be trained. To add an architecture or a data set, write one file and add
one line here; the command line and the tests go through these tables.

The entries are names, imported on use: `penstock --help` must not wait for torch.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import Augmentation, TrainConfig
from training.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from training.data.dataset import Dataset

ARCHITECTURES = {
    "autoencoder": "training.models.autoencoder:Autoencoder",
    "cnn": "training.models.cnn:Cnn",
    "dcgan": "training.models.dcgan:Dcgan",
    "dense": "training.models.dense:Dense",
    "encoder": "training.models.encoder:Encoder",
    "gpt": "training.models.gpt:Gpt",
    "lstm-forecast": "training.models.lstm_forecast:LstmForecast",
    "mlp": "training.models.mlp:Mlp",
    "recurrent": "training.models.recurrent:Recurrent",
    "residual": "training.models.residual:Residual",
    "stroke-cnn": "training.models.stroke_cnn:StrokeCnn",
    "textbook-cnn": "training.models.textbook_cnn:TextbookCnn",
    "translator": "training.models.translator:Translator",
}

DATASETS = {
    "ag-news": "training.data.ag_news:load",
    "breast-cancer": "training.data.breast_cancer:load",
    "cifar10": "training.data.cifar10:load",
    "cifar10-pair": "training.data.cifar10_pair:load",
    "corner4x4": "training.data.corner4x4:load",
    "digits": "training.data.digits:load",
    "etth1": "training.data.ett:load",
    "fashion-mnist": "training.data.fashion_mnist:load",
    "imdb": "training.data.imdb:load",
    "mnist": "training.data.mnist:load",
    "mnist-denoising": "training.data.mnist_denoising:load",
    "mnist-latent": "training.data.mnist_latent:load",
    "multi30k": "training.data.multi30k:load",
    "sst2": "training.data.sst2:load",
    "tiny-shakespeare": "training.data.shakespeare:load",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    summary: str
    dataset: str
    architecture: str
    architecture_config: dict[str, int | float | str]
    config: TrainConfig
    task: str = "classification"  # see training.tasks

    def with_activation(self, name: str | None) -> dict[str, int | float | str]:
        """The architecture's configuration with another activation; as it is for None. Raises
        ConfigError where the architecture has none to choose."""
        if name is None:
            return self.architecture_config
        if "activation" not in self.architecture_config:
            raise ConfigError(
                f"--activation: the architecture {self.architecture} of this recipe has none to "
                "choose"
            )
        return self.architecture_config | {"activation": name}


# Small shifts and mirror images, as suits pictures of things.
_PICTURES = Augmentation(rotation=0, scale=0.05, shear=0, shift=2, mirror=True)


def _sentences(
    summary: str, cell: str, directions: int = 1, dropout: float = 0.4, word_dropout: float = 0.1
) -> Recipe:
    """Sentiment of film reviews by a recurrent net."""
    return Recipe(
        summary=summary,
        dataset="sst2",
        architecture="recurrent",
        architecture_config={
            "cell": cell, "directions": directions, "vocabulary": 8000, "embedding": 64,
            "hidden": 128, "classes": 2, "dropout": dropout, "word_dropout": word_dropout,
        },
        config=TrainConfig(
            epochs=5, batch_size=64, lr=0.002, optimizer="adamw", weight_decay=0.1, clip_norm=1.0
        ),
        task="text",
    )  # fmt: skip


RECIPES: Mapping[str, Recipe] = {
    "mnist-cnn": Recipe(
        summary="MNIST digits, convolutional",
        dataset="mnist",
        architecture="cnn",
        architecture_config={
            "channels": 1, "width": 16, "hidden": 128, "classes": 10, "activation": "relu",
        },
        config=TrainConfig(epochs=8, augmentation=Augmentation()),
    ),
    "mnist-mlp": Recipe(
        summary="MNIST digits, fully connected",
        dataset="mnist",
        architecture="mlp",
        architecture_config={
            "inputs": 784, "hidden": 128, "layers": 1, "classes": 10, "dropout": 0.05,
            "activation": "relu",
        },
        config=TrainConfig(
            epochs=40, lookahead=5,
            augmentation=Augmentation(rotation=8.0, scale=0.08, shear=0.08, shift=1.0),
        ),
    ),
    "fashion-cnn": Recipe(
        summary="clothing, convolutional",
        dataset="fashion-mnist",
        architecture="cnn",
        architecture_config={
            "channels": 1, "width": 32, "hidden": 128, "classes": 10, "activation": "relu",
            "mirror": True,
        },
        config=TrainConfig(epochs=24, lookahead=5, augmentation=replace(_PICTURES, scale=0.1)),
    ),
    "cifar10-cnn": Recipe(
        summary="CIFAR-10, the convolutional net of every textbook",
        dataset="cifar10",
        architecture="textbook-cnn",
        architecture_config={
            "channels": 3, "side": 32, "width": 32, "hidden": 64, "outputs": 10,
            "activation": "relu",
        },
        config=TrainConfig(epochs=8, augmentation=_PICTURES),
    ),
    "cifar10-resnet": Recipe(
        summary="CIFAR-10, a small residual net; an hour and a half of processor time",
        dataset="cifar10",
        architecture="residual",
        architecture_config={
            "channels": 3, "width": 64, "wide": 256, "classes": 10, "activation": "gelu",
        },
        config=TrainConfig(
            epochs=12, batch_size=500, lr=0.73, momentum=0.85, weight_decay=1.33e-3,
            bias_scale=64.0, lookahead=5, label_smoothing=0.2,
            augmentation=Augmentation(
                rotation=0, scale=0, shear=0, shift=0, mirror=True, alternate=True, crop=2,
                smallest=0.625,
            ),
        ),
    ),
    "binary-cnn": Recipe(
        summary="automobile or truck, 64x64 pixels, one sigmoid",
        dataset="cifar10-pair",
        architecture="textbook-cnn",
        architecture_config={
            "channels": 3, "side": 64, "width": 16, "hidden": 64, "outputs": 1, "dropout": 0.2,
            "last_pool": 1, "activation": "relu",
        },
        config=TrainConfig(epochs=8, batch_size=100, label_smoothing=0.0, augmentation=_PICTURES),
        task="binary",
    ),
    "binary-mlp": Recipe(
        summary="benign or malignant, 8-10-1 with a sigmoid; needs no network",
        dataset="breast-cancer",
        architecture="dense",
        architecture_config={"inputs": 8, "hidden": 10, "outputs": 1, "activation": "sigmoid"},
        config=TrainConfig(epochs=50, batch_size=16, label_smoothing=0.0),
        task="binary",
    ),
    "corner4x4-mlp": Recipe(
        summary="strokes across or down in 4x4 pixels, fully connected; needs no network",
        dataset="corner4x4",
        architecture="dense",
        architecture_config={"inputs": 16, "hidden": 16, "outputs": 1, "activation": "relu"},
        config=TrainConfig(epochs=200, batch_size=16, label_smoothing=0.0),
        task="binary",
    ),
    "corner4x4-cnn": Recipe(
        summary="the same, convolutional; needs no network",
        dataset="corner4x4",
        architecture="stroke-cnn",
        architecture_config={"kernels": 8, "outputs": 1, "activation": "relu"},
        config=TrainConfig(epochs=200, batch_size=16, label_smoothing=0.0),
        task="binary",
    ),
    "mnist-autoencoder": Recipe(
        summary="MNIST digits from under noise, through 16 numbers",
        dataset="mnist-denoising",
        architecture="autoencoder",
        architecture_config={"side": 28, "hidden": 512, "latent": 16, "activation": "relu"},
        config=TrainConfig(
            epochs=20,
            lr=0.003,
            optimizer="adamw",
            augmentation=Augmentation(rotation=0, scale=0, shear=0, shift=0, noise=64),
        ),
        task="reconstruction",
    ),
    "mnist-gan": Recipe(
        summary="digits out of nothing but chance, a DCGAN",
        dataset="mnist-latent",
        architecture="dcgan",
        architecture_config={"latent": 64, "width": 32},
        config=TrainConfig(
            epochs=12, batch_size=100, lr=0.0005, optimizer="adam", momentum=0.5,
            weight_decay=0.0, label_smoothing=0.0,
        ),
        task="generation",
    ),
    "ett-lstm": Recipe(
        summary="seven series of a transformer, 96 hours in, 24 hours out",
        dataset="etth1",
        architecture="lstm-forecast",
        architecture_config={"variables": 7, "hidden": 64, "horizon": 24, "dropout": 0.2},
        config=TrainConfig(
            epochs=6, batch_size=64, lr=0.001, optimizer="adamw", weight_decay=0.01, clip_norm=1.0
        ),
        task="forecast",
    ),
    "sst2-rnn": _sentences("film reviews, good or bad, a plain recurrent net", "rnn"),
    "sst2-gru": _sentences("the same, GRU", "gru"),
    "sst2-lstm": _sentences("the same, LSTM", "lstm"),
    "sst2-bilstm": _sentences("the same, LSTMs both ways", "lstm", 2, 0.5, 0.2),
    "imdb-lstm": Recipe(
        summary="whole film reviews, good or bad, LSTM",
        dataset="imdb",
        architecture="recurrent",
        architecture_config={
            "cell": "lstm", "directions": 1, "vocabulary": 10_000, "embedding": 64, "hidden": 96,
            "classes": 2, "dropout": 0.4, "word_dropout": 0.2,
        },
        config=TrainConfig(
            epochs=7, batch_size=64, lr=0.002, optimizer="adamw", weight_decay=0.1, clip_norm=1.0
        ),
        task="text",
    ),
    "imdb-transformer": Recipe(
        summary="the same, a convolution and the encoder of a Transformer",
        dataset="imdb",
        architecture="encoder",
        architecture_config={
            "vocabulary": 10_000, "width": 64, "heads": 2, "layers": 1, "classes": 2,
            "dropout": 0.2, "word_dropout": 0.3, "kernel": 3,
        },
        config=TrainConfig(
            epochs=4, batch_size=64, lr=0.002, optimizer="adamw", weight_decay=0.1, clip_norm=1.0
        ),
        task="text",
    ),
    "agnews-transformer": Recipe(
        summary="news by topic, the encoder of a Transformer",
        dataset="ag-news",
        architecture="encoder",
        architecture_config={
            "vocabulary": 10_000, "width": 48, "heads": 4, "layers": 1, "classes": 4,
            "dropout": 0.1, "word_dropout": 0.1, "kernel": 0,
        },
        config=TrainConfig(
            epochs=2, batch_size=64, lr=0.002, optimizer="adamw", weight_decay=0.1, clip_norm=1.0
        ),
        task="text",
    ),
    "shakespeare-gpt": Recipe(
        summary="Shakespeare's plays, character by character, a decoder-only Transformer",
        dataset="tiny-shakespeare",
        architecture="gpt",
        architecture_config={
            "vocabulary": 65, "context": 128, "width": 160, "heads": 5, "layers": 4,
            "dropout": 0.0,
        },
        config=TrainConfig(
            epochs=2, batch_size=16, lr=0.003, warmup=0.1, optimizer="adamw", weight_decay=0.1,
            label_smoothing=0.0, clip_norm=1.0,
        ),
        task="language",
    ),
    "multi30k-transformer": Recipe(
        summary="captions of photographs, German to English, encoder and decoder",
        dataset="multi30k",
        architecture="translator",
        architecture_config={
            "vocabulary": 4000, "width": 160, "heads": 4, "layers": 2, "dropout": 0.1,
        },
        config=TrainConfig(
            epochs=8, batch_size=64, lr=0.003, warmup=0.1, optimizer="adamw", weight_decay=0.01,
            clip_norm=1.0,
        ),
        task="translation",
    ),
    "digits-mlp": Recipe(
        summary="scikit-learn's digits, fully connected; needs no network",
        dataset="digits",
        architecture="mlp",
        architecture_config={
            "inputs": 64, "hidden": 128, "layers": 1, "classes": 10, "dropout": 0.1,
            "activation": "relu",
        },
        config=TrainConfig(epochs=20, batch_size=50),
    ),
}  # fmt: skip


def build_model(architecture: str, config: Mapping[str, int | float | str]) -> "nn.Module":
    build = _resolve(ARCHITECTURES, "architecture", architecture)
    try:
        model: nn.Module = build(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"architecture {architecture} cannot be built: {error}") from error
    return model


def load_dataset(name: str, data_dir: Path | None = None) -> "Dataset":
    load = _resolve(DATASETS, "data set", name)
    dataset: Dataset = load(data_dir)
    return dataset


def _resolve(table: Mapping[str, str], what: str, name: str) -> Any:
    if name not in table:
        raise ConfigError(f"no {what} is called {name!r}; there are: {', '.join(sorted(table))}")
    return pkgutil.resolve_name(table[name])
