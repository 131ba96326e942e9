"""The training loop, all of it: batches in random order, and a test after each epoch.

The weights of the last step are the result. The test set is looked at, never acted upon: no epoch
is picked by it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import torch
from torch import Tensor, nn

from training import batches, craft, provenance, tasks
from training.augment import distort
from training.catalog import RECIPES, build_model
from training.checkpoint import Checkpoint, DatasetRef
from training.config import TrainConfig
from training.curve import Epoch
from training.data.dataset import Dataset
from training.errors import ConfigError, DivergenceError
from training.spec import (
    Signature,
    autoencoder,
    binary,
    classifier,
    forecaster,
    language,
    text_classifier,
)
from training.tasks import Task

EVALUATION_BATCH = 500


def train(
    name: str,
    config: TrainConfig,
    dataset: Dataset,
    on_batch: Callable[[], None] = lambda: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    activation: str | None = None,
) -> tuple[Checkpoint, nn.Module]:
    """One recipe, from a seed to a model and the record of how it came about."""
    recipe = RECIPES[name]
    architecture_config = recipe.with_activation(activation)
    started = time.monotonic()
    commit = provenance.commit("training")  # now, lest the files change while we train
    config = replace(config, device=pick_device(config.device))
    torch.manual_seed(config.seed)
    model = build_model(recipe.architecture, architecture_config)
    craft.initialise(model, config.init)
    task = tasks.make(recipe.task, dataset.normalisation)
    history = fit(model, task, config, dataset, on_batch, on_epoch)
    metrics = measure(model, task, dataset)
    checkpoint = Checkpoint(
        recipe=name,
        architecture=recipe.architecture,
        architecture_config=architecture_config,
        config=config,
        signature=signature(recipe.task, dataset, architecture_config),
        labels=dataset.labels,
        normalisation=dataset.normalisation,
        metrics={
            **metrics,
            "training_seconds": round(time.monotonic() - started, 2),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        history=history,
        dataset=DatasetRef(dataset.name, dataset.sha256),
        commit=commit,
        versions=provenance.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=recipe.task,
        columns=dataset.columns,
        tokenizer=dataset.tokenizer,
    )
    return checkpoint, model


def fit(
    model: nn.Module,
    task: Task,
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
    normalise = task.preprocessing(dataset.normalisation).to(device)
    # Channels last: convolutions on CPUs run up to 1.5 times as fast.
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = craft.optimizer(model, config)
    number = batches_per_epoch(len(train_x), config)
    size = len(train_x) if config.full_batch else min(config.batch_size, len(train_x))
    lengths = task.lengths(train_x)
    step, steps = 0, config.epochs * number
    history: list[Epoch] = []

    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        model.train()
        losses = 0.0
        for index in batches.draw(len(train_x), size, number, lengths, device):
            x, y = train_x[index], train_y[index]  # (B, ...), (B,)
            if config.augmentation:
                x = distort(x.float(), config.augmentation)
            outputs = model(normalise(x))  # (B, ...)
            loss = task.loss(outputs, y, config.label_smoothing)

            lr = craft.learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            craft.clip(model, config)
            optimizer.step()
            step += 1

            # Without the smoothing, so that it compares with the test loss.
            plain = task.loss(outputs.detach(), y).item()
            if not math.isfinite(plain):
                raise DivergenceError(
                    f"the loss became {plain} in epoch {epoch}, step {step} of {steps}: "
                    f"train with a lower --lr than {config.lr}"
                )
            losses += plain
            on_batch()

        test_loss, test_accuracy = evaluate(model, normalise, task, test_x, test_y)
        seconds = round(time.monotonic() - started, 2)
        history.append(Epoch(epoch, lr, losses / number, test_loss, test_accuracy, seconds))
        on_epoch(history[-1])
    return tuple(history)


def batches_per_epoch(samples: int, config: TrainConfig) -> int:
    """Whole batches only: a last batch of one sample has no variance to normalise by."""
    return 1 if config.full_batch else max(1, samples // config.batch_size)


def measure(model: nn.Module, task: Task, dataset: Dataset) -> dict[str, int | float]:
    """What is stated of a model, measured as the checkpoint's reader will measure it: on a CPU, in
    the plain memory format. Other devices and formats round otherwise, which can turn a close
    call."""
    model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    normalise = task.preprocessing(dataset.normalisation)
    test_x, test_y = torch.tensor(dataset.test_x), torch.tensor(dataset.test_y)
    loss, accuracy = evaluate(model, normalise, task, test_x, test_y)
    metrics: dict[str, int | float] = {"test_accuracy": accuracy} if accuracy is not None else {}
    metrics |= {"test_n": len(test_y), "test_loss": loss}
    metrics |= task.scores(predict(model, normalise, test_x), test_x, test_y)
    for name, (probe_x, probe_y) in dataset.probes.items():
        x, y = torch.tensor(probe_x), torch.tensor(probe_y)
        probe_loss, probe_accuracy = evaluate(model, normalise, task, x, y)
        metrics |= {f"{name}_n": len(y), f"{name}_loss": probe_loss}
        metrics |= {} if probe_accuracy is None else {f"{name}_accuracy": probe_accuracy}
    return metrics


@torch.no_grad()
def evaluate(
    model: nn.Module, normalise: nn.Module, task: Task, x: Tensor, y: Tensor
) -> tuple[float, float | None]:
    """Mean loss and accuracy, over all samples."""
    model.eval()
    loss, correct = 0.0, 0
    right: Tensor | None = None
    split = partial(torch.split, split_size_or_sections=EVALUATION_BATCH)
    for some_x, some_y in zip(split(x), split(y), strict=True):
        outputs = model(normalise(some_x))
        loss += task.loss(outputs, some_y, reduction="sum").item()
        right = task.right(outputs, some_y)
        correct += int(right.sum()) if right is not None else 0
    return loss / len(y), correct / len(y) if right is not None else None


@torch.no_grad()
def predict(model: nn.Module, normalise: nn.Module, x: Tensor) -> Tensor:
    """The outputs for all samples, raw ones in."""
    model.eval()
    return torch.cat([model(normalise(some)) for some in torch.split(x, EVALUATION_BATCH)])


def signature(
    task: str, dataset: Dataset, architecture_config: Mapping[str, int | float | str]
) -> Signature:
    match task:
        case "text":
            return text_classifier(dataset.field, len(dataset.labels))
        case "binary":
            return binary(dataset.field)
        case "reconstruction":
            return autoencoder(dataset.field, int(architecture_config["latent"]))
        case "forecast":
            return forecaster(dataset.field, dataset.test_y.shape[1:])
        case "language":
            return language(dataset.field, int(architecture_config["vocabulary"]))
    return classifier(dataset.field, len(dataset.labels))


def pick_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine, or this build of PyTorch, has no CUDA")
    return name
