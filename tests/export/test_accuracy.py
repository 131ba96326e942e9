from dataclasses import replace

import numpy as np
import pytest

from export import accuracy
from export.errors import AccuracyRefused, DataRefused
from export.runners import Outputs, Runner, onnx_runner
from serving.types import Array
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset


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
