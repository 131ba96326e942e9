"""The training loop, all of it: SGD with a one-cycle learning rate, and a test after each epoch.

The weights of the last step are the result. The test set is looked at, never acted upon: no epoch
is picked by it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from training import provenance
from training.augment import distort
from training.catalog import RECIPES, build_model
from training.checkpoint import Checkpoint, DatasetRef
from training.config import TrainConfig
from training.curve import Epoch
from training.data.dataset import Dataset
from training.errors import ConfigError, DivergenceError
from training.normalise import Normalise
from training.spec import classifier

EVALUATION_BATCH = 500


def train(
    name: str,
    config: TrainConfig,
    dataset: Dataset,
    on_batch: Callable[[], None] = lambda: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Checkpoint, nn.Module]:
    """One recipe, from a seed to a model and the record of how it came about."""
    recipe = RECIPES[name]
    started = time.monotonic()
    commit = provenance.commit("training")  # now, lest the files change while we train
    config = replace(config, device=pick_device(config.device))
    torch.manual_seed(config.seed)
    model = build_model(recipe.architecture, recipe.architecture_config)
    history = fit(model, config, dataset, on_batch, on_epoch)
    test_loss, test_accuracy = evaluate_rebuilt(model, dataset)
    checkpoint = Checkpoint(
        recipe=name,
        architecture=recipe.architecture,
        architecture_config=recipe.architecture_config,
        config=config,
        signature=classifier(dataset.field, len(dataset.labels)),
        labels=dataset.labels,
        normalisation=dataset.normalisation,
        metrics={
            "test_accuracy": test_accuracy,
            "test_n": len(dataset.test_y),
            "test_loss": test_loss,
            "training_seconds": round(time.monotonic() - started, 2),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        history=history,
        dataset=DatasetRef(dataset.name, dataset.sha256),
        commit=commit,
        versions=provenance.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return checkpoint, model


def fit(
    model: nn.Module,
    config: TrainConfig,
    dataset: Dataset,
    on_batch: Callable[[], None],
    on_epoch: Callable[[Epoch], None],
) -> tuple[Epoch, ...]:
    device = torch.device(config.device)
    train_x, train_y = torch.tensor(dataset.train_x), torch.tensor(dataset.train_y).to(device)
    train_x = train_x.to(device)  # raw, (N, ...)
    test_x, test_y = (
        torch.tensor(dataset.test_x).to(device),
        torch.tensor(dataset.test_y).to(device),
    )
    normalise = Normalise(dataset.normalisation).to(device)
    # Channels last: convolutions on CPUs run up to 1.5 times as fast.
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, config)
    batches = batches_per_epoch(len(train_x), config)
    size = min(config.batch_size, len(train_x))
    step, steps = 0, config.epochs * batches
    history: list[Epoch] = []

    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        model.train()
        losses = 0.0
        order = torch.randperm(len(train_x), device=device)
        for index in torch.split(order[: batches * size], size):
            x, y = train_x[index].float(), train_y[index]  # (B, ...), (B,)
            if config.augmentation:
                x = distort(x, config.augmentation)
            logits = model(normalise(x))  # (B, classes)
            loss = cross_entropy(logits, y, label_smoothing=config.label_smoothing)

            lr = learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1

            # Without the smoothing, so that it compares with the test loss.
            plain = cross_entropy(logits.detach(), y).item()
            if not math.isfinite(plain):
                raise DivergenceError(
                    f"the loss became {plain} in epoch {epoch}, step {step} of {steps}: "
                    f"train with a lower --lr than {config.lr}"
                )
            losses += plain
            on_batch()

        test_loss, test_accuracy = evaluate(model, normalise, test_x, test_y)
        seconds = round(time.monotonic() - started, 2)
        history.append(Epoch(epoch, lr, losses / batches, test_loss, test_accuracy, seconds))
        on_epoch(history[-1])
    return tuple(history)


def batches_per_epoch(samples: int, config: TrainConfig) -> int:
    """Whole batches only: a last batch of one sample has no variance to normalise by."""
    return max(1, samples // config.batch_size)


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Rises linearly to `config.lr`, then falls to zero along half a cosine."""
    rising = config.warmup * steps
    if step < rising:
        return config.lr * (step + 1) / (rising + 1)
    return config.lr * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    parameters = list(model.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )


def evaluate_rebuilt(model: nn.Module, dataset: Dataset) -> tuple[float, float]:
    """Loss and accuracy as the checkpoint's reader will get them: on a CPU, in the plain memory
    format. Other devices and formats round otherwise, which can turn a close call."""
    model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    test_x, test_y = torch.tensor(dataset.test_x), torch.tensor(dataset.test_y)
    return evaluate(model, Normalise(dataset.normalisation), test_x, test_y)


@torch.no_grad()
def evaluate(model: nn.Module, normalise: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy, over all samples."""
    model.eval()
    loss, correct = 0.0, 0
    split = partial(torch.split, split_size_or_sections=EVALUATION_BATCH)
    for some_x, some_y in zip(split(x), split(y), strict=True):
        logits = model(normalise(some_x))
        loss += cross_entropy(logits, some_y, reduction="sum").item()
        correct += int((logits.argmax(1) == some_y).sum())
    return loss / len(y), correct / len(y)


def pick_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine, or this build of PyTorch, has no CUDA")
    return name
