"""A part of a network as a model of its own, such as the decoder of an autoencoder: a checkpoint
and the data to prove it on, which the gates then take like any other."""

from dataclasses import replace

import torch

from export.errors import ConversionFailed
from export.job import PARTS
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.normalise import Normalise
from training.spec import UNCHANGED, TensorField, decoder


def take(part: str, checkpoint: Checkpoint, dataset: Dataset) -> tuple[Checkpoint, Dataset]:
    """`dataset` in terms of the part: for a decoder, the codes of the test inputs in their place.

    The error that the checkpoint states is that of the whole, and so of the decoder on the
    encoder's codes. Raises ConversionFailed where the network has no such part."""
    if part not in PARTS or checkpoint.task != "reconstruction":
        raise ConversionFailed(
            f"only the decoder of an autoencoder is a part that can be exported; this is {part!r} "
            f"of a network for {checkpoint.task}"
        )
    encoder = checkpoint.build().get_submodule("encoder")
    normalise = Normalise(checkpoint.normalisation)
    with torch.inference_mode():
        codes = encoder(normalise(torch.tensor(dataset.test_x))).numpy()
    latent = codes.shape[1]
    taken = replace(
        checkpoint,
        part=part,
        task="decoding",
        signature=decoder(latent, checkpoint.signature.outputs[1].shape),
        normalisation=UNCHANGED,
    )
    field = TensorField("latent", "FP32", (latent,))
    return taken, replace(dataset, test_x=codes, field=field, normalisation=UNCHANGED)
