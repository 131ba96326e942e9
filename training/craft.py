"""The craft of training by name: optimisers, schedules, gradient clipping, initial weights."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from training.config import TrainConfig

# Of the sparse initialisation: the share of each unit's inputs that begin at zero.
SPARSITY = 0.8
SQUARES = 0.999  # how slowly Adam forgets the squares of gradients
DEVIATION = 0.01  # of the gaussian one
RANGE = 0.05  # of the uniform one, either way


def optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Weight decay is for weight matrices and kernels, not for biases and norms; `set_rate` knows
    either group's learning rate."""
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "scale": 1.0},
        {"params": others, "weight_decay": 0.0, "scale": config.bias_scale},
    ]
    lr = config.lr
    match config.optimizer:
        case "gd" | "sgd":
            return torch.optim.SGD(groups, lr)
        case "momentum":
            return torch.optim.SGD(groups, lr, momentum=config.momentum)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr)
        case "adadelta":
            return torch.optim.Adadelta(groups, lr)
        case "adam":
            return torch.optim.Adam(groups, lr, betas=(config.momentum, SQUARES))
        case "adamw":
            return torch.optim.AdamW(groups, lr, betas=(config.momentum, SQUARES))
    return torch.optim.SGD(groups, lr, momentum=config.momentum, nesterov=config.momentum > 0)


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """For the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """That of one step, `config.lr` at the peak.

    one-cycle rises linearly during the warm-up, then falls to zero along half a cosine; cosine and
    linear fall from the start; step falls to a tenth at half of the way, and to a hundredth at
    three quarters.
    """
    if config.schedule == "constant":
        return config.lr
    rising = config.warmup * steps if config.schedule == "one-cycle" else 0.0
    if step < rising:
        return config.lr * (step + 1) / (rising + 1)
    if config.schedule == "linear":
        return config.lr * (1 - step / steps)
    if config.schedule == "step":
        return config.lr * 0.1 ** sum(step >= share * steps for share in (0.5, 0.75))
    return config.lr * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def clip(model: nn.Module, config: TrainConfig) -> None:
    """Each element first, then all gradients together."""
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)


@torch.no_grad()
def initialise(model: nn.Module, name: str) -> None:
    """Weight matrices and kernels anew, by name; biases and norms stay as they are."""
    if name == "default":
        return
    for weights in (p for p in model.parameters() if p.ndim > 1):
        match name:
            case "gaussian":
                nn.init.normal_(weights, std=DEVIATION)
            case "uniform":
                nn.init.uniform_(weights, -RANGE, RANGE)
            case "glorot":
                nn.init.xavier_uniform_(weights)
            case "he":
                nn.init.kaiming_normal_(weights, nonlinearity="relu")
            case "sparse":
                _sparse(weights)


def _sparse(weights: torch.Tensor) -> None:
    """Each unit keeps a few of its inputs, as heavy as He's rule has it for so many."""
    rows = weights.view(len(weights), -1)  # (units, inputs); a view of the same memory
    kept = max(1, round(rows.shape[1] * (1 - SPARSITY)))
    nn.init.normal_(rows, std=math.sqrt(2 / kept))
    for row in rows:
        row[torch.randperm(len(row))[kept:]] = 0
