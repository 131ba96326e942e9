"""How a model is trained. Every default stands here; a recipe overrides what it needs to."""

import math
from dataclasses import dataclass

from training.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The largest random distortion of a training image, either way; drawn anew for each image."""

    rotation: float = 10.0  # degrees
    scale: float = 0.1  # fraction, for height and width apart
    shear: float = 0.1  # fraction of the height
    shift: float = 2.0  # pixels, for rows and columns apart


@dataclass(frozen=True, slots=True)
class TrainConfig:
    epochs: int = 10
    batch_size: int = 250
    lr: float = 0.1  # at the peak of the one-cycle schedule
    warmup: float = 0.2  # fraction of all steps, on which the learning rate rises
    momentum: float = 0.9
    weight_decay: float = 5e-4  # on weight matrices and kernels; never on biases and norms
    label_smoothing: float = 0.1
    augmentation: Augmentation | None = None
    seed: int = 0
    device: str = "auto"  # auto: cuda where there is one, else cpu

    def __post_init__(self) -> None:
        self._require("epochs", self.epochs >= 1, "at least 1")
        # A single sample has no variance for batch norm to divide by.
        self._require("batch_size", self.batch_size >= 2, "at least 2")
        self._require("lr", 0 < self.lr < math.inf, "above 0 and finite")
        self._require("warmup", 0 <= self.warmup < 1, "in [0, 1)")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        self._require("device", self.device in DEVICES, f"one of {', '.join(DEVICES)}")
        self._require("seed", 0 <= self.seed < 2**63, "in [0, 2^63)")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"{name} must be {what}, not {getattr(self, name)}")
