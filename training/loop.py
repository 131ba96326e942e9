"""The training loop, all of it: batches in random order, and a test after each epoch.

The weights of the last step are the result, or with a patience those of the epoch that was best on
samples held out of the training data. The test set is looked at, never acted upon: no epoch is
picked by it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from training import batches, craft, provenance, tasks, tokens, validation
from training import state as states
from training.augment import Augmenter
from training.catalog import RECIPES, build_model
from training.checkpoint import Checkpoint, DatasetRef
from training.config import TrainConfig
from training.curve import Epoch
from training.data.dataset import Array, Dataset
from training.errors import ConfigError, DivergenceError
from training.lookahead import Lookahead
from training.models import whitening
from training.spec import (
    Signature,
    autoencoder,
    binary,
    classifier,
    decoder,
    forecaster,
    language,
    text_classifier,
    translator,
)
from training.state import Identity, Progress
from training.tasks import Task

EVALUATION_BATCH = 500


def train(
    name: str,
    config: TrainConfig,
    dataset: Dataset,
    on_batch: Callable[[], None] = lambda: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    *,
    architecture: Mapping[str, int | float | str] | None = None,
    state: Path | None = None,
    on_resume: Callable[[int], None] = lambda _: None,
) -> tuple[Checkpoint, nn.Module]:
    """One recipe, from a seed to a model and the record of how it came about.

    `architecture` is the network's configuration where it is not the recipe's. In the file `state`
    the run is kept after each epoch, and goes on from what lies there already; `on_resume` is told
    behind how many epochs. Who has saved the checkpoint removes the file."""
    recipe = RECIPES[name]
    architecture_config = dict(architecture or recipe.architecture_config)
    commit = provenance.commit("training")  # now, lest the files change while we train
    config = on_device(config)
    data = DatasetRef(dataset.name, dataset.sha256)
    torch.manual_seed(config.seed)
    model = build_model(recipe.architecture, architecture_config)
    craft.initialise(model, config.init)
    whitening.fit(model, dataset)
    # Channels last: convolutions on CPUs run up to 1.5 times as fast.
    model.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    progress = Progress(model, craft.optimizer(model, config))
    identity = Identity(name, recipe.architecture, architecture_config, config, data)
    if state is not None and states.restore(state, identity, progress):
        on_resume(len(progress.history))

    def after_epoch(row: Epoch) -> None:
        if state is not None:
            states.save(state, identity, progress)
        on_epoch(row)

    task = tasks.make(recipe.task, dataset.normalisation, dataset.tokenizer)
    fit(progress, task, config, dataset, on_batch, after_epoch)
    metrics = measure(model, task, dataset)
    if config.patience is not None:
        metrics["best_epoch"] = validation.best(progress.history).epoch
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
            "training_seconds": round(progress.seconds, 2),
            "parameters": sum(each.numel() for each in model.get_submodule(task.part).parameters()),
        },
        history=tuple(progress.history),
        dataset=data,
        commit=commit,
        versions=provenance.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=recipe.task,
        part=task.part,
        columns=dataset.columns,
        tokenizer=dataset.tokenizer,
    )
    return checkpoint, model


def fit(
    progress: Progress,
    task: Task,
    config: TrainConfig,
    dataset: Dataset,
    on_batch: Callable[[], None],
    after_epoch: Callable[[Epoch], None],
) -> None:
    """The epochs that are left; `progress` is where the last one ended, or the best one where that
    counts."""
    device = torch.device(config.device)
    model, optimizer, history = progress.model, progress.optimizer, progress.history
    samples = dataset if config.patience is None else validation.held_out(dataset)
    train_x, train_y = _tensors(samples.train_x, samples.train_y, device)  # raw, (N, ...)
    held_out = _tensors(samples.test_x, samples.test_y, device)
    test = _tensors(dataset.test_x, dataset.test_y, device)
    normalise = task.preprocessing(dataset.normalisation).to(device)
    forward: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    precision = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    pieces = batches_per_epoch(len(train_x), config)
    number, size = pieces, min(config.batch_size, len(train_x))
    if config.full_batch:
        number, size = 1, len(train_x)
    lengths = task.lengths(train_x)
    augment = Augmenter(config, len(train_x), device)
    step, steps = len(history) * number, config.epochs * number

    for epoch in range(len(history) + 1, config.epochs + 1):
        if validation.is_over(history, config.patience):
            break
        started = time.monotonic()
        model.train()
        losses = 0.0
        slow = Lookahead(model) if config.lookahead else None
        for index in batches.draw(len(train_x), size, number, lengths, device):
            optimizer.zero_grad()
            plain = 0.0
            # The gradient of a sum is the sum of gradients: no more than a batch's activations are
            # held in memory, however many samples a step takes.
            for piece in index.tensor_split(pieces // number):
                share = len(piece) / len(index)
                x, y = augment(train_x[piece], piece, epoch), train_y[piece]  # (B, ...), (B,)
                with precision:
                    outputs = task.outputs(forward, normalise(x), y)  # (B, ...)
                    loss = share * task.loss(outputs, y, config.label_smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                # Without the smoothing, so that it compares with the test loss.
                plain += share * task.loss(outputs.detach().float(), y).item()
                on_batch()

            lr = craft.learning_rate(step, steps, config)
            craft.set_rate(optimizer, lr)
            craft.clip(model, config)
            optimizer.step()
            step += 1
            if slow and (step % config.lookahead == 0 or step % number == 0):
                slow.pull(config.lookahead, step / steps)

            if not math.isfinite(plain):
                at = f"epoch {epoch}, step {step} of {steps}"
                raise _diverged(f"the loss became {plain} in {at}", config)
            losses += plain

        row = Epoch(epoch, lr, losses / number, *evaluate(model, normalise, task, *test), 0.0)
        # The last step may be the one that goes too far, and no batch comes behind it.
        if not math.isfinite(row.test_loss):
            at = f"the last step of epoch {epoch}"
            raise _diverged(f"the test loss became {row.test_loss} by {at}", config)
        if config.patience is not None:
            loss_there, right_there = evaluate(model, normalise, task, *held_out)
            row = replace(row, validation_loss=loss_there, validation_accuracy=right_there)
        history.append(replace(row, seconds=round(time.monotonic() - started, 2)))
        if config.patience is not None and validation.best(history) is history[-1]:
            progress.best = {name: each.clone() for name, each in model.state_dict().items()}
        after_epoch(history[-1])
    if progress.best:
        model.load_state_dict(progress.best)


def _diverged(how: str, config: TrainConfig) -> DivergenceError:
    return DivergenceError(f"{how}: train with a lower --lr than {config.lr}")


def _tensors(x: Array, y: Array, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(x).to(device), torch.tensor(y).to(device)


def batches_per_epoch(samples: int, config: TrainConfig) -> int:
    """How many go through the network, with an optimiser that takes all for one step as well.

    Whole ones only: a last batch of one sample has no variance to normalise by."""
    return max(1, samples // config.batch_size)


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
    metrics |= task.scores(predict(model, normalise, task, test_x), test_x, test_y)
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
    if (lengths := task.lengths(x)) is not None:
        order = lengths.argsort()  # beside texts of like length, there is little padding to read
        x, y = x[order], y[order]
    loss, correct = 0.0, 0
    right: Tensor | None = None
    split = partial(torch.split, split_size_or_sections=EVALUATION_BATCH)
    for some_x, some_y in zip(split(x), split(y), strict=True):
        outputs = task.outputs(model, normalise(some_x), some_y)
        loss += task.loss(outputs, some_y, reduction="sum").item()
        right = task.right(outputs, some_y)
        correct += int(right.sum()) if right is not None else 0
    return loss / len(y), correct / len(y) if right is not None else None


@torch.no_grad()
def predict(model: nn.Module, normalise: nn.Module, task: Task, x: Tensor) -> Tensor:
    """The answers to all samples, raw ones in."""
    model.eval()
    split = torch.split(x, EVALUATION_BATCH)
    return torch.cat([task.answers(model, normalise(some)) for some in split])


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
        case "generation":
            return decoder(dataset.field.shape[0], dataset.test_y.shape[1:])
        case "language":
            return language(dataset.field, int(architecture_config["vocabulary"]))
        case "translation":
            return translator(dataset.field, tokens.longest(dataset.tokenizer))
    return classifier(dataset.field, len(dataset.labels))


def on_device(config: TrainConfig) -> TrainConfig:
    """With the device that there is in the place of `auto`. Raises ConfigError for one that there
    is not, and for what only makes sense on a GPU."""
    device = pick_device(config.device)
    if device == "cpu" and config.precision != "fp32":
        raise ConfigError(
            f"--precision {config.precision} needs a GPU: most CPUs emulate such arithmetic, and "
            "train the more slowly"
        )
    if device == "cpu" and config.compile:
        raise ConfigError(
            "--compile needs a GPU: on a CPU compiling takes longer than these networks are trained"
        )
    return replace(config, device=device)


def pick_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine, or this build of PyTorch, has no CUDA")
    return name
