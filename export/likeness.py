"""How like real pictures generated ones are: by the features that a classifier of the same
repository sees in both. It is no gate: without that very classifier nothing is said."""

from pathlib import Path
from typing import Final

import numpy as np
import onnx

from export.onnx_model import OnnxModel
from export.runners import Runner
from serving import passport as passports
from serving.passport import LikenessProof, PassportError
from serving.types import Array
from training import frechet
from training.data.dataset import Dataset

JUDGE: Final = "mnist-cnn"
BATCH: Final = 256


def measure(candidate: Runner, dataset: Dataset, repository: Path) -> LikenessProof | None:
    """Of as many pictures as there are latents in the test set, against the test pictures; beside
    it, that of as many training pictures. None where the repository has no judge."""
    path = _judge(repository / JUDGE)
    if path is None:
        return None
    features = Features(path)
    real = features(dataset.test_y)
    made = [_pixels(candidate(rows)["image"]) for rows in _batches(dataset.test_x)]
    generated = features(np.concatenate(made))
    training = features(dataset.train_y[: len(real)])
    return LikenessProof(
        value=frechet.distance(generated, real),
        n=len(real),
        floor=frechet.distance(training, real),
        features=real.shape[1],
        judge=f"{JUDGE} version {path.parent.name}",
        judge_sha256=passports.file_sha256(path),
    )


class Features:
    """What the last layer of a classifier is given, (N, F), for raw pictures."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        (last,) = (node for node in model.graph.node if "logits" in node.output)
        seen = onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None)
        del model.graph.output[:]
        model.graph.output.append(seen)
        self._model = OnnxModel(model.SerializeToString())

    def __call__(self, pictures: Array) -> Array:
        (name,) = self._model.inputs
        answers = [self._model({name: rows}) for rows in _batches(pictures)]
        return np.concatenate([seen for answer in answers for seen in answer.values()])


def _judge(folder: Path) -> Path | None:
    """The newest version that is whole and of our own recipe: anybody may call a model so."""
    versions = [path for path in folder.glob("*/model.onnx") if path.parent.name.isdecimal()]
    ours = filter(_is_ours, sorted(versions, key=lambda path: int(path.parent.name), reverse=True))
    return next(ours, None)


def _is_ours(path: Path) -> bool:
    try:
        passport = passports.read(path.with_name(passports.FILENAME))
        return passport.recipe == JUDGE and not passports.mismatches(passport, path.parent)
    except (PassportError, OSError):
        return False


def _pixels(brightness: Array) -> Array:
    """As a PNG has them."""
    return np.round(brightness * 255).astype(np.uint8)


def _batches(rows: Array) -> list[Array]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
