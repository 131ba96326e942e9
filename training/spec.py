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


# Of inputs that are no quantities, such as the numbers of tokens.
UNCHANGED = Normalisation(scale=1.0, mean=(0.0,), std=(1.0,))


def classifier(field: TensorField, classes: int) -> Signature:
    """The signature of a classifier: raw input in, logits and probabilities out."""
    return Signature(
        inputs=(field,),
        outputs=(
            TensorField("logits", "FP32", (classes,)),
            TensorField("probabilities", "FP32", (classes,)),
        ),
    )


def text_classifier(ids: TensorField, classes: int) -> Signature:
    """That of texts: the numbers of their tokens, and a mask of the same shape that is 0 over the
    padding on the right; named as others name them."""
    mask = TensorField("attention_mask", ids.datatype, ids.shape)
    return Signature(inputs=(ids, mask), outputs=classifier(ids, classes).outputs)


def translator(ids: TensorField, longest: int) -> Signature:
    """Texts as `text_classifier` has them, and by how many beams to search; the best translation
    out, padded on the right, and the mean log-probability of its tokens."""
    mask = TensorField("attention_mask", ids.datatype, ids.shape)
    return Signature(
        inputs=(ids, mask, TensorField("beams", "INT64", (1,))),
        outputs=(
            TensorField("output_ids", "INT64", (longest,)),
            TensorField("score", "FP32", (1,)),
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


def language(ids: TensorField, vocabulary: int) -> Signature:
    """The numbers of tokens in, and for each of them the logits of the one that follows."""
    return Signature(
        inputs=(ids,), outputs=(TensorField("logits", "FP32", (*ids.shape, vocabulary)),)
    )
