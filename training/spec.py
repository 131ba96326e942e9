"""A model's data contract: its tensors by name, type and shape, and how raw input is normalised."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorField:
    """One input or output. `datatype` is an Open Inference Protocol name; `shape` leaves out the
    batch dimension, and -1 in it stands for a variable size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    inputs: tuple[TensorField, ...]
    outputs: tuple[TensorField, ...]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """x' = (x * scale - mean) / std, where `mean` and `std` hold one value for each place along
    `axis` (of the batch: 1 for the channels of images), or a single one for all."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    axis: int = 1

    def broadcast(self, ndim: int) -> tuple[int, ...]:
        """The shape in which `mean` and `std` fit a batch of `ndim` dimensions."""
        return (*(1,) * self.axis, -1, *(1,) * (ndim - self.axis - 1))


def classifier(field: TensorField, classes: int) -> Signature:
    """The signature of a classifier: raw input in, logits and probabilities out."""
    return Signature(
        inputs=(field,),
        outputs=(
            TensorField("logits", "FP32", (classes,)),
            TensorField("probabilities", "FP32", (classes,)),
        ),
    )


def binary(field: TensorField) -> Signature:
    """That of a yes or no: one sigmoid, given as the probabilities of both labels."""
    return Signature(
        inputs=(field,),
        outputs=(TensorField("logit", "FP32", (1,)), TensorField("probabilities", "FP32", (2,))),
    )


def autoencoder(field: TensorField, latent: int) -> Signature:
    """Pixels in, 0 to 255; the code and the picture made of it out, 0 to 1."""
    return Signature(
        inputs=(field,),
        outputs=(
            TensorField("latent", "FP32", (latent,)),
            TensorField("reconstruction", "FP32", field.shape),
        ),
    )


def decoder(latent: int, image: tuple[int, ...]) -> Signature:
    """A code in, the picture made of it out, 0 to 1."""
    return Signature(
        inputs=(TensorField("latent", "FP32", (latent,)),),
        outputs=(TensorField("image", "FP32", image),),
    )


def forecaster(field: TensorField, shape: tuple[int, ...]) -> Signature:
    """The past (hours, variables) in, the future out, both in the variables' own units."""
    return Signature(inputs=(field,), outputs=(TensorField("forecast", "FP32", shape),))
