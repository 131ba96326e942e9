"""What a network is for: what training makes small, what counts as right, what is measured.

classification   one logit per class
text             the same, of the numbers of tokens
binary           one logit, for the second of two labels
reconstruction   an encoder and a decoder: an image again, out of a few numbers
decoding         the decoder alone
forecast         the next values of several series
language         one logit per token, at every place of a text, for the token that follows

A target is what the data set holds for a sample; a network's output has one row per sample too.
"""

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
)

from training import tokens
from training.errors import ConfigError
from training.normalise import Normalise
from training.spec import Normalisation

Reduction: TypeAlias = Literal["mean", "sum"]


class Task(ABC):
    in_time = False  # whether samples that follow each other overlap

    @abstractmethod
    def loss(
        self, outputs: Tensor, y: Tensor, smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Over all samples; `smoothing` is that of the labels, where there are any."""

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

    in_time = True

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

    in_time = True

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


def _squared_error(outputs: Tensor, wanted: Tensor, reduction: Reduction) -> Tensor:
    """The mean over a sample's elements, then the mean or the sum over the samples."""
    mean = mse_loss(outputs, wanted)
    return mean if reduction == "mean" else mean * len(wanted)


def make(name: str, normalisation: Normalisation) -> Task:
    """Raises ConfigError for a name that is none."""
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
        case "language":
            return Language()
    raise ConfigError(
        f"no task is called {name!r}; there are: classification, text, binary, "
        "reconstruction, decoding, forecast, language"
    )
