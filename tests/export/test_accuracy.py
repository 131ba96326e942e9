from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import accuracy, parts
from export.errors import AccuracyRefused, ConversionFailed, DataRefused
from export.job import OPSET
from export.onnx_model import Outputs
from export.runners import Runner, onnx_runner, torch_runner
from export.to_onnx import to_onnx
from serving.passport import ErrorProof
from serving.types import Array
from tests.export.checkpoints import untrained
from tests.training.tiny import tiny
from training import tasks
from training.checkpoint import Checkpoint, DatasetRef
from training.data.dataset import Dataset
from training.loop import measure


def with_one_more_mistake(candidate: Runner, digits: Dataset) -> Runner:
    """Like `candidate`, but wrong on the first test sample that it is right on."""
    answers = candidate(digits.test_x)["logits"].argmax(axis=1)
    victim = digits.test_x[np.flatnonzero(answers == digits.test_y)[0]]

    def run(raw: Array) -> Outputs:
        scores = np.array(candidate(raw)["probabilities"])
        hit = (raw == victim).all(axis=1)
        scores[hit] = np.roll(scores[hit], 1, axis=1)
        return {"probabilities": scores}

    return run


def test_the_whole_test_set_is_counted(trained: Checkpoint, digits: Dataset, graph: bytes) -> None:
    proof = accuracy.check(onnx_runner(graph), digits, trained)

    logits = onnx_runner(graph)(digits.test_x)["logits"]
    right = sum(row.argmax() == y for row, y in zip(logits, digits.test_y, strict=True))
    assert (proof.value, proof.n) == (right / 355, 355)
    assert proof.checkpoint == trained.metrics["test_accuracy"]


def test_one_right_answer_less_than_stated_is_refused_by_number(
    trained: Checkpoint, digits: Dataset, graph: bytes
) -> None:
    stated = round(trained.metrics["test_accuracy"] * 355)
    candidate = with_one_more_mistake(onnx_runner(graph), digits)

    with pytest.raises(
        AccuracyRefused, match=rf"right on {stated - 1} of 355 .* 1 fewer than .* {stated}"
    ):
        accuracy.check(candidate, digits, trained)


@pytest.mark.parametrize(
    ("metrics", "named"),
    [
        ({"test_accuracy": 0.9, "test_n": 354}, "over 354 samples.* has 355"),
        ({"test_accuracy": 0.9}, "no test accuracy"),
        ({"test_n": 355}, "no test accuracy"),
    ],
)
def test_a_checkpoint_that_cannot_be_held_to_its_word_is_refused(
    trained: Checkpoint,
    digits: Dataset,
    graph: bytes,
    metrics: dict[str, int | float],
    named: str,
) -> None:
    with pytest.raises(AccuracyRefused, match=named):
        accuracy.check(onnx_runner(graph), digits, replace(trained, metrics=metrics))


def test_texts_are_batched_by_their_length_and_each_keeps_its_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accuracy, "BATCH", 2)
    texts = [[5, 0, 7, 1], [1], [2, 5], [6, 1, 8], []]
    x = np.array([[*text, *[0] * (6 - len(text))] for text in texts])
    reviews = replace(tiny("sst2"), test_x=x, test_y=np.array([1, 0, 1, 0, 0]))
    widths: list[tuple[int, ...]] = []

    def knows_fives(raw: Array) -> Outputs:
        widths.append(raw.shape)
        there = (raw == 5).any(axis=1)
        return {"probabilities": np.stack([~there, there], axis=1)}

    assert accuracy.count_right(knows_fives, reviews) == 5
    assert widths == [(2, 1), (2, 3), (1, 4)]


def test_other_data_is_refused_by_both_hashes(trained: Checkpoint, digits: Dataset) -> None:
    other = replace(digits, test_x=digits.test_x[::-1])

    with pytest.raises(DataRefused) as refused:
        accuracy.check_data(other, trained)

    assert other.sha256 in str(refused.value)
    assert digits.sha256 in str(refused.value)


def test_labels_in_another_order_are_refused(trained: Checkpoint, digits: Dataset) -> None:
    swapped = replace(trained, labels=("1", "0", *trained.labels[2:]))

    with pytest.raises(DataRefused, match="of the checkpoint are 1, 0, 2"):
        accuracy.check_data(digits, swapped)


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    dataset = tiny("breast-cancer")
    checkpoint = untrained("binary-mlp", tmp_path)
    same = DatasetRef(dataset.name, dataset.sha256)
    accuracy.check_data(dataset, replace(checkpoint, dataset=same))
    swapped = replace(checkpoint, dataset=same, columns=checkpoint.columns[::-1])

    with pytest.raises(DataRefused, match=r"the columns of .*, but those of the checkpoint"):
        accuracy.check_data(dataset, swapped)


def shifted(candidate: Runner, off: float) -> Runner:
    """Like `candidate`, but brighter by `off`."""

    def run(raw: Array) -> Outputs:
        return {name: np.array(array) + off for name, array in candidate(raw).items()}

    return run


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Dataset]:
    """Its network is random; what it states of itself is true."""
    dataset = tiny("mnist-denoising")
    checkpoint = untrained("mnist-autoencoder", tmp_path_factory.mktemp("runs"))
    task = tasks.make("reconstruction", dataset.normalisation)
    return replace(checkpoint, metrics=measure(checkpoint.build(), task, dataset)), dataset


def test_an_error_no_larger_than_stated_passes(autoencoder: tuple[Checkpoint, Dataset]) -> None:
    checkpoint, dataset = autoencoder

    proof = accuracy.check(torch_runner(checkpoint), dataset, checkpoint)

    assert isinstance(proof, ErrorProof)
    assert proof.n == len(dataset.test_y)
    assert proof.value == pytest.approx(proof.checkpoint, rel=1e-5)


def test_an_error_larger_than_stated_is_refused_by_number(
    autoencoder: tuple[Checkpoint, Dataset],
) -> None:
    checkpoint, dataset = autoencoder

    with pytest.raises(AccuracyRefused, match=r"a mean squared error of .* more than .*'s"):
        accuracy.check(shifted(torch_runner(checkpoint), 0.3), dataset, checkpoint)


def test_the_decoder_alone_has_the_error_of_the_whole(
    autoencoder: tuple[Checkpoint, Dataset],
) -> None:
    checkpoint, data = parts.take("decoder", *autoencoder)

    proof = accuracy.check(onnx_runner(to_onnx(checkpoint, OPSET)), data, checkpoint)

    assert isinstance(proof, ErrorProof)
    assert proof.value == pytest.approx(autoencoder[0].metrics["test_mse"], rel=1e-5)


def test_a_classifier_has_no_decoder(trained: Checkpoint, digits: Dataset) -> None:
    with pytest.raises(ConversionFailed, match="only the decoder of an autoencoder"):
        parts.take("decoder", trained, digits)
