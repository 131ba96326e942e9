import getpass
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export import parity, samples, to_onnx
from export.errors import ConversionFailed
from export.job import OPSET, OPSETS, Tolerance
from export.runners import onnx_runner, torch_runner
from export.served import Served
from tests.export.checkpoints import untrained
from tests.training.samples import narrow
from training.catalog import RECIPES
from training.checkpoint import Checkpoint
from training.spec import Normalisation, Signature, TensorField, classifier

CODE = Path(to_onnx.__file__).parents[1]


# A conversion takes seconds: both layers of sst2-bilstm are that of sst2-lstm and imdb-lstm,
# agnews-transformer is imdb-transformer without its convolution, `test_texts` converts a GRU, and
# `test_language` and `test_translation` small models of the kind of those left.
ELSEWHERE = {
    "sst2-lstm", "imdb-lstm", "agnews-transformer", "sst2-gru", "shakespeare-gpt",
    "multi30k-transformer",
}  # fmt: skip


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in ELSEWHERE])
def test_every_recipe_exports_to_a_graph_that_equals_its_network(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    checkpoint = untrained(recipe, tmp_path)
    extremes = samples.extreme(checkpoint, 16)

    candidate = onnx_runner(to_onnx.to_onnx(checkpoint, OPSET))
    reference = torch_runner(checkpoint)
    proof = parity.check(reference, candidate, [extremes], (1, 2, 7, 16), Tolerance())

    assert [batch.batch_size for batch in proof.batches] == [1, 2, 7, 16]


def test_the_served_model_takes_raw_input_and_any_batch_size(graph: bytes) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    (served,) = session.get_inputs()
    assert (served.name, served.type, served.shape) == ("features", "tensor(float)", ["batch", 64])
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("logits", "tensor(float)", ["batch", 10]),
        ("probabilities", "tensor(float)", ["batch", 10]),
    ]
    assert session.run(None, {"features": np.zeros((0, 64), np.float32)})[0].shape == (0, 10)
    probabilities = session.run(["probabilities"], {"features": np.ones((5, 64), np.float32)})[0]
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(5), rtol=1e-6)


def test_the_same_checkpoint_gives_the_same_bytes(trained: Checkpoint, graph: bytes) -> None:
    assert to_onnx.to_onnx(trained, OPSET) == graph


def test_the_file_says_nothing_of_the_machine_that_made_it(graph: bytes) -> None:
    private = {str(CODE), str(Path.home()), "site-packages", ".py", "File ", socket.gethostname()}
    if (user := getpass.getuser()) != "root":  # a word of its own in any graph
        private.add(user)

    assert [word for word in private if word.encode() in graph] == []
    assert b"metadata_props" not in graph


def test_no_part_of_the_graph_carries_notes(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    parts = [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output]
    parts += [*model.graph.initializer, *model.graph.value_info]

    assert [part for part in parts if part.doc_string or part.metadata_props] == []


def test_the_file_holds_the_weights_and_little_else(trained: Checkpoint, graph: bytes) -> None:
    weights = 4 * int(trained.metrics["parameters"])

    assert weights * 0.95 < len(graph) < weights + 4096


def test_the_opset_is_the_one_asked_for(trained: Checkpoint, graph: bytes) -> None:
    newest = onnx.load_from_string(to_onnx.to_onnx(trained, OPSETS[1]))
    default = onnx.load_from_string(graph)

    assert [(o.domain, o.version) for o in newest.opset_import] == [("", OPSETS[1])]
    assert [(o.domain, o.version) for o in default.opset_import] == [("", OPSET)]


def test_each_channel_is_normalised_by_its_own_mean_and_deviation() -> None:
    import torch

    normalisation = Normalisation(1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    raw = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)
    served = Served(torch.nn.Identity(), normalisation, ndim=4, task="classification")

    logits, _ = served(torch.tensor(raw))

    for channel, (mean, std) in enumerate(zip(normalisation.mean, normalisation.std, strict=True)):
        wanted = (raw[:, channel] / 255 - mean) / std
        np.testing.assert_allclose(logits[:, channel], wanted, atol=1e-6)


FEATURES = TensorField("features", "FP32", (64,))


@pytest.mark.parametrize(
    ("signature", "named"),
    [
        (Signature((FEATURES, FEATURES), classifier(FEATURES, 10).outputs), "one input"),
        (Signature((FEATURES,), classifier(FEATURES, 10).outputs[:1]), "logits and probabilities"),
        (classifier(FEATURES, 9), "10 labels"),
        (classifier(TensorField("tokens", "INT64", (8,)), 10), "INT64"),
        (classifier(TensorField("features", "FP32", (-1,)), 10), r"\[-1\]"),
        (classifier(TensorField("features", "FP32", ()), 10), r"\[\]"),
    ],
)
def test_a_model_that_is_no_plain_classifier_is_refused_by_name(
    trained: Checkpoint, signature: Signature, named: str
) -> None:
    with pytest.raises(ConversionFailed, match=named):
        to_onnx.to_onnx(replace(trained, signature=signature), OPSET)


def test_a_network_that_does_not_fit_its_signature_is_refused(trained: Checkpoint) -> None:
    wrong = classifier(TensorField("features", "FP32", (63,)), 10)

    with pytest.raises(ConversionFailed, match="torch cannot export mlp"):
        to_onnx.to_onnx(replace(trained, signature=wrong), OPSET)


def test_a_graph_with_other_tensors_than_the_signature_is_refused(
    trained: Checkpoint, graph: bytes
) -> None:
    model = onnx.load_from_string(graph)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(ConversionFailed, match=r"FLOAT\[1, 64\]"):
        to_onnx.check(model, trained.signature)


def test_a_graph_that_is_not_valid_onnx_is_refused(trained: Checkpoint, graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    model.graph.node[-1].op_type = "Sofmax"

    with pytest.raises(ConversionFailed, match="not valid ONNX"):
        to_onnx.check(model, trained.signature)
