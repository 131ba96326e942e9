"""The gates on generators: pictures like the checkpoint's, and how like real ones they are."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import accuracy, likeness
from export.errors import AccuracyRefused
from export.onnx_model import Outputs
from export.runners import Runner, torch_runner
from serving.passport import FILENAME, ErrorProof, LikenessProof, file_sha256
from serving.types import Array
from tests.export.checkpoints import untrained
from tests.training.tiny import tiny
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

COMMITTED = Path(__file__).parents[2] / "model_repository"


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    return tiny("mnist-latent")


@pytest.fixture(scope="module")
def gan(pictures: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Its networks are random; what it states of itself is true."""
    checkpoint = untrained("mnist-gan", tmp_path_factory.mktemp("runs"))
    apart = accuracy.pixel_distance(torch_runner(checkpoint), pictures)
    return replace(checkpoint, metrics={"test_frechet": apart, "test_n": len(pictures.test_y)})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the judge in two versions, and a third that was copied by half."""
    folder = tmp_path_factory.mktemp("repository")
    for version in ("9", "10", "11"):
        put(folder, "mnist-cnn", version)
    graph = folder / likeness.JUDGE / "11" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    return folder


def put(repository: Path, model: str, version: str) -> Path:
    """A committed model in the judge's place."""
    place = repository / likeness.JUDGE / version
    return Path(shutil.copytree(COMMITTED / model / "1", place))


def measure(candidate: Runner, dataset: Dataset, repository: Path) -> LikenessProof:
    proof = likeness.measure(candidate, dataset, repository)
    assert proof is not None
    return proof


def test_the_generator_alone_is_exported(gan: Checkpoint) -> None:
    names = {name for name, _ in gan.build().named_parameters()}
    assert names == {"0.weight", "2.weight", "2.bias", "4.weight", "5.weight", "5.bias"} | {
        "7.weight",
        "7.bias",
    }


def test_pictures_no_further_from_real_ones_than_stated_pass(
    gan: Checkpoint, pictures: Dataset
) -> None:
    proof = accuracy.check(torch_runner(gan), pictures, gan)
    assert isinstance(proof, ErrorProof)
    assert proof.n == len(pictures.test_y)
    assert proof.value == pytest.approx(proof.checkpoint)


def test_pictures_further_from_real_ones_are_refused(gan: Checkpoint, pictures: Dataset) -> None:
    def brighter(raw: Array) -> Outputs:
        return {"image": torch_runner(gan)(raw)["image"] + 0.1}

    with pytest.raises(AccuracyRefused, match=r"Fréchet distance of .* more than the checkpoint's"):
        accuracy.check(brighter, pictures, gan)


def real(pictures: Dataset) -> Runner:
    """Makes of the first latent the first test picture, and so on."""
    by_latent = {
        row.tobytes(): y / 255 for row, y in zip(pictures.test_x, pictures.test_y, strict=True)
    }
    return lambda raw: {"image": np.stack([by_latent[row.tobytes()] for row in raw])}


def test_real_pictures_are_like_real_pictures(pictures: Dataset, repository: Path) -> None:
    proof = measure(real(pictures), pictures, repository)
    assert proof.value == pytest.approx(0, abs=1e-6 * proof.floor)
    assert (proof.n, proof.features) == (len(pictures.test_y), 128)


def test_generated_pictures_are_less_like_real_ones_than_other_real_ones(
    gan: Checkpoint, pictures: Dataset, repository: Path
) -> None:
    proof = measure(torch_runner(gan), pictures, repository)
    assert proof.value > proof.floor > 0


def test_the_newest_whole_version_is_the_judge(pictures: Dataset, repository: Path) -> None:
    proof = measure(real(pictures), pictures, repository)
    assert proof.judge == "mnist-cnn version 10"
    assert proof.judge_sha256 == file_sha256(repository / "mnist-cnn" / "10" / "model.onnx")


def test_without_a_judge_nothing_is_said(pictures: Dataset, tmp_path: Path) -> None:
    assert likeness.measure(real(pictures), pictures, tmp_path) is None


@pytest.mark.parametrize("model", ["digits-mlp", "cifar10-cnn"])
def test_another_model_of_the_judges_name_says_nothing(
    pictures: Dataset, tmp_path: Path, model: str
) -> None:
    put(tmp_path, model, "1")
    assert likeness.measure(real(pictures), pictures, tmp_path) is None


def test_a_judge_without_a_passport_says_nothing(pictures: Dataset, tmp_path: Path) -> None:
    (put(tmp_path, "mnist-cnn", "1") / FILENAME).unlink()
    assert likeness.measure(real(pictures), pictures, tmp_path) is None
