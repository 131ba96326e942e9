"""The network as it is served: preprocessing before it, and after it what its task answers with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from export import recurrent
from training.checkpoint import Checkpoint
from training.spec import Normalisation
from training.tokens import PADDING, longest


class Served(nn.Module):
    """Raw input (B, ...) to the outputs that the signature of its task names."""

    gain: Tensor
    offset: Tensor

    def __init__(
        self, model: nn.Module, normalisation: Normalisation, ndim: int, task: str
    ) -> None:
        super().__init__()
        self.model = model
        # (x * scale - mean) / std as x * gain + offset: two passes over the input instead of
        # three. The parity gate compares it with the step that training used.
        mean = torch.tensor(normalisation.mean, dtype=torch.float64)
        std = torch.tensor(normalisation.std, dtype=torch.float64)
        shape = normalisation.broadcast(ndim)
        self.register_buffer("gain", (normalisation.scale / std).float().view(shape))
        self.register_buffer("offset", (-mean / std).float().view(shape))
        self._answer = ANSWERS[task]

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        return self._answer(self, raw.to(torch.float32) * self.gain + self.offset)


class ServedText(nn.Module):
    """Numbers of tokens and their mask, (B, T) each, to logits and probabilities.

    What the mask leaves out is padding, whatever number stands there. Tokens behind the first
    `length` are not looked at, as training has seen no longer texts."""

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__()
        self.model = model
        self.length = length

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        shown = torch.where(mask != 0, ids, PADDING)[:, : self.length]
        logits = self.model(shown)
        return logits, torch.softmax(logits, dim=-1)


def serve(checkpoint: Checkpoint) -> nn.Module:
    """The trained network of a checkpoint, in eval mode, as it is served."""
    model = checkpoint.build()
    if checkpoint.task == "text":
        return ServedText(recurrent.replace(model), longest(checkpoint.tokenizer)).eval()
    ndim = 1 + len(checkpoint.signature.inputs[0].shape)
    return Served(model, checkpoint.normalisation, ndim, checkpoint.task).eval()


def _classification(served: Served, x: Tensor) -> tuple[Tensor, ...]:
    logits = served.model(x)
    return logits, torch.softmax(logits, dim=-1)


def _binary(served: Served, x: Tensor) -> tuple[Tensor, ...]:
    logit = served.model(x)
    return logit, torch.sigmoid(torch.cat((-logit, logit), dim=-1))


def _reconstruction(served: Served, x: Tensor) -> tuple[Tensor, ...]:
    latent = served.model.get_submodule("encoder")(x)
    return latent, torch.sigmoid(served.model.get_submodule("decoder")(latent))


def _decoding(served: Served, x: Tensor) -> tuple[Tensor, ...]:
    return (torch.sigmoid(served.model(x)),)


def _forecast(served: Served, x: Tensor) -> tuple[Tensor, ...]:
    return ((served.model(x) - served.offset) / served.gain,)


ANSWERS: dict[str, Callable[[Served, Tensor], tuple[Tensor, ...]]] = {
    "classification": _classification,
    "binary": _binary,
    "reconstruction": _reconstruction,
    "decoding": _decoding,
    "generation": _decoding,
    "forecast": _forecast,
}
TASKS = (*ANSWERS, "text", "language", "translation")
