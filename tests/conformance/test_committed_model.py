"""A trained model gives the same numbers and names the same classes on both servers."""

from base64 import b64decode
from typing import Any

import numpy as np

from serving.types import Array
from tests.conformance.calls import Connection
from tests.conformance.conftest import Pair
from tests.conformance.tensors import Infer, Input, Output, as_binary, as_raw_contents

ROWS = 5
SHAPE = [ROWS, 1, 28, 28]
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE).ravel().tolist()
IMAGE = Input("image", "UINT8", SHAPE, PIXELS)


def _numbers(server: Connection) -> dict[str, Array]:
    body: Any = as_raw_contents(Infer("mnist-cnn", [IMAGE])).send(server).body
    return {
        output["name"]: np.frombuffer(b64decode(raw), "<f4")
        for output, raw in zip(body["outputs"], body["raw_output_contents"], strict=True)
    }


def _classes(server: Connection) -> list[str]:
    """Index and label of the best class of each row."""
    wanted = Output("probabilities", {"classification": 1, "binary_data": False})
    body: Any = as_binary(Infer("mnist-cnn", [IMAGE], [wanted])).send(server).body
    return [text.partition(":")[2] for text in body["outputs"][0]["data"]]


def test_the_numbers_are_the_same_up_to_rounding(pair: Pair) -> None:
    ours, theirs = _numbers(pair.ours), _numbers(pair.triton)

    assert ours.keys() == theirs.keys() == {"logits", "probabilities"}
    for name, numbers in theirs.items():
        # Their runtimes are releases of ONNX Runtime that differ.
        np.testing.assert_allclose(ours[name], numbers, rtol=1e-4, atol=1e-5)


def test_the_best_classes_bear_the_same_labels(pair: Pair) -> None:
    ours = _classes(pair.ours)

    assert len(ours) == ROWS
    assert ours == _classes(pair.triton)
