"""A model as a function from one raw batch to its outputs, by torch and by ONNX Runtime.

The torch side is the checkpoint as training evaluated it. It shares no code with `to_onnx`, so
that a mistake there shows as a difference.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from export.onnx_model import CPU, OnnxModel, Outputs
from serving.types import Array
from training import tasks
from training.checkpoint import Checkpoint
from training.tokens import PADDING

Runner: TypeAlias = Callable[[Array], Outputs]


def torch_runner(checkpoint: Checkpoint) -> Runner:
    task = tasks.make(checkpoint.task, checkpoint.normalisation)
    normalise, model = task.preprocessing(checkpoint.normalisation), checkpoint.build()

    def run(raw: Array) -> Outputs:
        with torch.inference_mode():
            x = normalise(torch.tensor(raw))
            answers = _answer(checkpoint, model, x)
            return {name: answer.numpy() for name, answer in answers.items()}

    return run


def _answer(checkpoint: Checkpoint, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    match checkpoint.task:
        case "binary":
            logit = model(x)
            yes = logit.sigmoid()
            return {"logit": logit, "probabilities": torch.cat((1 - yes, yes), dim=1)}
        case "reconstruction":
            return {
                "latent": model.get_submodule("encoder")(x),
                "reconstruction": model(x).sigmoid(),
            }
        case "decoding" | "generation":
            return {"image": model(x).sigmoid()}
        case "forecast":
            by = checkpoint.normalisation
            return {
                "forecast": (model(x) * torch.tensor(by.std) + torch.tensor(by.mean)) / by.scale
            }
        case "language":
            return {"logits": model(x)}
    logits = model(x)
    return {"logits": logits, "probabilities": logits.softmax(dim=-1)}


def onnx_runner(model: bytes, threads: int = 0, provider: str = CPU) -> Runner:
    """Runs by `provider`, on the CPU on `threads` threads (0: one a core). GateRefused where ONNX
    Runtime cannot load the model or run a batch."""
    loaded = OnnxModel(model, threads, provider)
    inputs = loaded.inputs

    def run(raw: Array) -> Outputs:
        return loaded(feed(inputs, raw))

    return run


def feed(inputs: Sequence[str], raw: Array) -> dict[str, Array]:
    """What a model of these inputs takes of a raw batch. A second input is the mask that goes with
    numbers of tokens."""
    return dict(zip(inputs, (raw, (raw != PADDING).astype(raw.dtype)), strict=False))
