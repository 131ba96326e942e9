"""How a model is trained. Every default stands here; a recipe overrides what it needs to."""

import math
from dataclasses import dataclass, replace
from typing import Any

from training.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
# By name, each with the peak learning rate that suits it where nobody names one: the step of an
# adaptive method is about as long as its learning rate, that of the others as the gradient says.
OPTIMIZERS = {
    "gd": 0.5,  # gradient descent on all samples at once
    "sgd": 0.2,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 0.02,
    "rmsprop": 0.001,
    "adadelta": 1.0,
    "adam": 0.003,
    "adamw": 0.003,
}
# Where it is a part of the gradient, as for all but adamw: as much as adamw takes beside it would
# drown the loss.
WEIGHT_DECAY = 5e-4
SCHEDULES = ("one-cycle", "cosine", "linear", "step", "constant")
INITS = ("default", "gaussian", "uniform", "glorot", "he", "sparse")
PRECISIONS = ("fp32", "bf16")
ACTIVATIONS = ("relu", "sigmoid", "tanh", "elu", "gelu", "maxout")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The largest random distortion of a training image, either way; drawn anew for each image."""

    rotation: float = 10.0  # degrees
    scale: float = 0.1  # fraction, for height and width apart
    shear: float = 0.1  # fraction of the height
    shift: float = 2.0  # pixels, for rows and columns apart
    mirror: bool = False  # left and right exchanged, in every other image
    alternate: bool = False  # mirrored is each image in every other epoch, and not at random
    smallest: float = 1.0  # side of the images at first, of their whole one
    crop: int = 0  # whole pixels, for rows and columns apart; the border mirrors what moves in
    noise: float = 0.0  # deviation, in grey levels of 0 to 255, drawn for each pixel


@dataclass(frozen=True, slots=True)
class TrainConfig:
    epochs: int = 10
    batch_size: int = 250
    lr: float = 0.1  # at the peak of the one-cycle schedule
    warmup: float = 0.2  # fraction of all steps, on which the learning rate rises
    momentum: float = 0.9  # of adam and adamw: their first beta
    weight_decay: float = WEIGHT_DECAY  # on weight matrices and kernels; never on biases and norms
    bias_scale: float = 1.0  # of the learning rate of biases and norms, beside that of the others
    lookahead: int = 0  # steps after which weights go back to their slow average; 0: never
    label_smoothing: float = 0.1
    augmentation: Augmentation | None = None
    seed: int = 0
    device: str = "auto"  # auto: cuda where there is one, else cpu
    optimizer: str = "nesterov"
    schedule: str = "one-cycle"
    init: str = "default"  # how the weights begin; default: as the layers' authors have it
    clip_norm: float | None = None  # of all gradients together, at most
    clip_value: float | None = None  # of each element of a gradient, at most, either way
    # Epochs without a better one after which training stops; None: it never does, and nothing is
    # held out of the training data to tell (see training.validation).
    patience: int | None = None
    precision: str = "fp32"  # of the arithmetic; weights are FP32 either way
    compile: bool = False  # by torch.compile

    def __post_init__(self) -> None:
        self._require("epochs", self.epochs >= 1, "at least 1")
        # A single sample has no variance for batch norm to divide by.
        self._require("batch_size", self.batch_size >= 2, "at least 2")
        self._require("lr", 0 < self.lr < math.inf, "above 0 and finite")
        self._require("warmup", 0 <= self.warmup < 1, "in [0, 1)")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("bias_scale", 0 < self.bias_scale < math.inf, "above 0 and finite")
        self._require("lookahead", self.lookahead >= 0, "0 or more")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        self._require("device", self.device in DEVICES, f"one of {', '.join(DEVICES)}")
        self._require("seed", 0 <= self.seed < 2**63, "in [0, 2^63)")

        self._require("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")
        self._require("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        self._require("init", self.init in INITS, f"one of {', '.join(INITS)}")
        self._require("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        self._require("patience", self.patience is None or self.patience >= 1, "at least 1")
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            self._require(name, limit is None or 0 < limit < math.inf, "above 0 and finite")

    @property
    def full_batch(self) -> bool:
        """Plain gradient descent takes all samples for each step."""
        return self.optimizer == "gd"

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"{name} must be {what}, not {getattr(self, name)}")


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """With all changes that are not None; another optimiser comes with its own learning rate, the
    same for all parameters, and in adamw's place with a weight decay that suits it."""
    named = {name: value for name, value in changes.items() if value is not None}
    optimizer = named.get("optimizer", config.optimizer)
    if optimizer != config.optimizer:
        lr = OPTIMIZERS.get(optimizer, config.lr)  # a name that is none is refused below
        named = {"lr": lr, "bias_scale": 1.0, **named}
        if config.optimizer == "adamw":
            named = {"weight_decay": min(config.weight_decay, WEIGHT_DECAY), **named}
    return replace(config, **named)
