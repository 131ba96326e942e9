"""What a network is for: what training makes small, what counts as right, what is measured.

classification   one logit per class
text             the same, of the numbers of tokens
binary           one logit, for the second of two labels
reconstruction   an encoder and a decoder: an image again, out of a few numbers
decoding         the decoder alone
generation       pictures like real ones out of latents, by a generator against a discriminator
forecast         the next values of several series
language         one logit per token, at every place of a text, for the token that follows
translation      the same of a second text, beside the first

A target is what the data set holds for a sample; a network's output has one row per sample too.
"""

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
    softplus,
)

from training import beam_search, bleu, frechet, tokens
from training.errors import ConfigError
from training.models.translator import Translator
from training.normalise import Normalise
from training.spec import Normalisation

BEAMS = 4  # by which translations are searched for where nobody says how many

Reduction: TypeAlias = Literal["mean", "sum"]


class Task(ABC):
    part = ""  # of the network, that is its result; the whole without

    def outputs(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What the loss is taken of: what the network gives, unless it has more parts than that."""
        outputs: Tensor = model(x)
        return outputs

    @abstractmethod
    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Over all samples; `smoothing` is that of the labels, where there are any."""

    def answers(self, model: nn.Module, x: Tensor) -> Tensor:
        """What is scored: what the network gives without a target beside the input."""
        answers: Tensor = model(x)
        return answers

    def preprocessing(self, normalisation: Normalisation) -> nn.Module:
        """From a raw batch to what the network takes."""
        return Normalise(normalisation)

    def lengths(self, x: Tensor) -> Tensor | None:
        """Of raw samples, (N,), where they differ in length; samples of like length share batches
        then."""
        return None

    def right(self, outputs: Tensor, y: Tensor) -> Tensor | None:
        """Which samples (B,) are answered rightly; None where nothing is right or wrong."""
        return None

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        """What else is stated of a whole test set, by name; `x` is raw."""
        return {}


class Classification(Task):
    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        return cross_entropy(outputs, y, label_smoothing=smoothing, reduction=reduction)

    def right(self, outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.argmax(1) == y


class Text(Classification):
    def preprocessing(self, normalisation: Normalisation) -> nn.Module:
        return tokens.Trim()

    def lengths(self, x: Tensor) -> Tensor:
        return tokens.lengths(x)


class Binary(Task):
    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        wanted = y.float() * (1 - smoothing) + smoothing / 2
        return binary_cross_entropy_with_logits(outputs.flatten(), wanted, reduction=reduction)

    def right(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.flatten() > 0) == y.bool()

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        from sklearn.metrics import roc_auc_score

        return {"test_auc": float(roc_auc_score(y.numpy(), outputs.flatten().numpy()))}


class Reconstruction(Task):
    """Targets are pixels, 0 to 255; outputs are logits of their brightness, 0 to 1."""

    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        return _squared_error(outputs.sigmoid(), y / 255, reduction)

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        """Beside it, the error of an answer that leaves the input as it is."""
        scores = {"test_mse": self.loss(outputs, y).item()}
        if x.shape == y.shape:
            scores["test_input_mse"] = mse_loss(x / 255, y / 255).item()
        return scores


class Forecast(Task):
    """Inputs (B, T, V) and targets (B, H, V) are in the series' own units, outputs normalised."""

    def __init__(self, normalisation: Normalisation) -> None:
        self._normalise = Normalise(normalisation)

    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        return _squared_error(outputs, self._normalise.to(y.device)(y), reduction)

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        """Beside it, the errors of who repeats the last hour, and of who repeats the last day."""
        wanted, past = self._normalise(y), self._normalise(x)
        horizon = y.shape[1]
        return {
            "test_mse": mse_loss(outputs, wanted).item(),
            "test_naive_mse": mse_loss(past[:, -1:].expand_as(wanted), wanted).item(),
            "test_seasonal_naive_mse": mse_loss(past[:, -horizon:], wanted).item(),
        }


class Language(Task):
    """Targets are the numbers of the tokens that follow, (B, T)."""

    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """The mean over a sample's places, then the mean or the sum over the samples."""
        mean = cross_entropy(outputs.transpose(1, 2), y, label_smoothing=smoothing)
        return mean if reduction == "mean" else mean * len(y)

    def preprocessing(self, normalisation: Normalisation) -> nn.Module:
        return nn.Identity()

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        """Nats per token, natural logarithms as they are."""
        return {"test_nats": self.loss(outputs, y).item()}


class Translation(Task):
    """Inputs are the numbers of one text's tokens (B, S), targets those of its translation, from
    START to END (B, T); both are padded on the right."""

    def __init__(self, tokenizer: str) -> None:
        self._tokenizer = tokenizer

    def outputs(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """At each place of the translation but the last, logits of the token that follows."""
        outputs: Tensor = model(x, tokens.trimmed(y)[:, :-1])
        return outputs

    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """The mean over a sample's tokens, then the mean or the sum over the samples."""
        wanted = tokens.trimmed(y)[:, 1:]
        losses = cross_entropy(
            outputs.flatten(0, 1),
            wanted.flatten(),
            ignore_index=tokens.PADDING,
            label_smoothing=smoothing,
            reduction="none",
        )
        real = (wanted != tokens.PADDING).sum(dim=1)
        means = losses.view_as(wanted).sum(dim=1) / real
        return means.mean() if reduction == "mean" else means.sum()

    def preprocessing(self, normalisation: Normalisation) -> nn.Module:
        return tokens.Trim()

    def lengths(self, x: Tensor) -> Tensor:
        return tokens.lengths(x)

    def answers(self, model: nn.Module, x: Tensor) -> Tensor:
        """Translations (B, longest), each by itself."""
        assert isinstance(model, Translator)
        longest = tokens.longest(self._tokenizer)
        answers = torch.full((len(x), longest), tokens.PADDING)
        for row, text in zip(answers, x, strict=True):
            source = text[: max(1, int(tokens.lengths(text[None])))]
            found = beam_search.translate(model, source, BEAMS, longest).tokens
            row[: len(found)] = torch.tensor(found)
        return answers

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        found, wanted = (bleu.texts(self._tokenizer, ids) for ids in (outputs, y))
        return {"test_bleu": bleu.corpus(found, wanted).score}


class Generation(Task):
    """Inputs are latents, (B, L), and targets real pictures, 0 to 255; outputs are logits of
    brightness, 0 to 1.

    Generator and discriminator are trained in the same step, each by its own part of one loss: the
    gradient of either part ends where the other network begins. So one optimiser does for both,
    as it keeps its state for each parameter anyway."""

    part = "generator"

    def outputs(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What the discriminator says, (B, 3): of real pictures, of generated ones as they are, and
        of the same ones as the generator is to learn from it."""
        discriminator = model.get_submodule("discriminator")
        made = model(x).sigmoid()
        fixed = {name: weights.detach() for name, weights in discriminator.named_parameters()}
        said = (
            discriminator(y / 255),
            discriminator(made.detach()),
            functional_call(discriminator, fixed, made),
        )
        return torch.stack(said, dim=1)

    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """The discriminator's loss and the generator's, which is the one that does not saturate.
        Of the labels, only that of real pictures is smoothed."""
        real, made, judged = outputs.unbind(dim=1)
        told_apart = softplus(-real) + smoothing * real + softplus(made)
        losses = told_apart + softplus(-judged)
        return losses.mean() if reduction == "mean" else losses.sum()

    def scores(self, outputs: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
        """Fréchet's distance between the pixels of generated and of real pictures, as brightness
        from 0 to 1."""
        made = outputs.sigmoid().flatten(1).numpy()
        return {"test_frechet": frechet.distance(made, y.flatten(1).numpy() / 255)}


def _squared_error(outputs: Tensor, wanted: Tensor, reduction: Reduction) -> Tensor:
    """The mean over a sample's elements, then the mean or the sum over the samples."""
    mean = mse_loss(outputs, wanted)
    return mean if reduction == "mean" else mean * len(wanted)


def make(name: str, normalisation: Normalisation, tokenizer: str = "") -> Task:
    """`tokenizer` is that of the data, where there is one. Raises ConfigError for a name that is
    none."""
    match name:
        case "classification":
            return Classification()
        case "text":
            return Text()
        case "binary":
            return Binary()
        case "reconstruction" | "decoding":
            return Reconstruction()
        case "forecast":
            return Forecast(normalisation)
        case "generation":
            return Generation()
        case "language":
            return Language()
        case "translation":
            return Translation(tokenizer)
    raise ConfigError(
        f"no task is called {name!r}; there are: classification, text, binary, "
        "reconstruction, decoding, forecast, generation, language, translation"
    )
