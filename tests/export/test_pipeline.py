"""The gates at work: whatever is wrong with a model, it is refused and nothing is published."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export import pipeline
from export.errors import (
    AccuracyRefused,
    ConversionFailed,
    DataRefused,
    GateRefused,
    Incompatible,
    ParityRefused,
    VersionExists,
)
from export.job import Job, Tolerance
from serving import passport
from serving.passport import DatasetProof
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.errors import CheckpointError

Tree = Callable[[Path], Any]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Holds a model already, so that what a refusal leaves behind shows in any place."""
    folder = tmp_path / "repository"
    (folder / "other" / "1").mkdir(parents=True)
    (folder / "other" / "1" / "model.onnx").write_bytes(b"someone else's")
    return folder


def test_an_export_publishes_a_version_with_its_proof(
    trained: Checkpoint, graph: bytes, digits: Dataset, repository: Path
) -> None:
    steps: list[str] = []

    published = pipeline.export(Job(Path(trained.folder), repository), steps.append)

    assert tuple(steps) == pipeline.STEPS
    assert published.folder == repository / "digits-mlp" / "1"
    assert (published.folder / "model.onnx").read_bytes() == graph
    assert published.size == len(graph)

    proof = passport.read(published.folder / "passport.json")
    assert proof == published.passport
    assert passport.mismatches(proof, published.folder) == []
    assert (proof.model, proof.version, proof.recipe) == ("digits-mlp", 1, "digits-mlp")
    assert proof.weights_sha256 == trained.weights_sha256
    assert proof.parameters == trained.metrics["parameters"]
    assert proof.dataset == DatasetProof(name="digits", sha256=digits.sha256)
    assert proof.accuracy is not None
    assert proof.accuracy.n == 355
    assert proof.accuracy.value >= proof.accuracy.checkpoint == trained.metrics["test_accuracy"]
    assert proof.parity is not None
    measured = {(batch.batch_size, batch.samples) for batch in proof.parity.batches}
    assert measured == {(n, kind) for n in (1, 2, 7, 64) for kind in ("real", "extreme")}
    assert proof.versions.keys() >= {"penstock", "torch", "onnx", "onnxruntime"}


@pytest.mark.usefixtures("converted")
def test_the_next_export_joins_the_model_and_keeps_its_batch_size(
    trained: Checkpoint, repository: Path
) -> None:
    first = Job(Path(trained.folder), repository, name="mine", max_batch_size=12)
    pipeline.export(first)

    second = pipeline.export(Job(Path(trained.folder), repository, name="mine"))

    assert second.folder == repository / "mine" / "2"
    assert second.passport.parity is not None
    assert {batch.batch_size for batch in second.passport.parity.batches} == {1, 2, 7, 12}


def weights(model: onnx.ModelProto) -> Any:
    """The matrix of the first layer."""
    return next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)


def edit(tensor: Any, change: Callable[[Any], Any]) -> None:
    array = numpy_helper.to_array(tensor)
    changed = change(array.copy()).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def corrupt_one_weight(model: onnx.ModelProto) -> None:
    def nudge(array: Any) -> Any:
        array.flat[20] += 0.01
        return array

    edit(weights(model), nudge)


def lose_a_weight(model: onnx.ModelProto) -> None:
    edit(weights(model), lambda array: np.where(array == array.max(), np.nan, array))


def flip_the_preprocessing(model: onnx.ModelProto) -> None:
    edit(next(t for t in model.graph.initializer if t.name == "gain"), np.negative)


def exchange_an_operator(model: onnx.ModelProto) -> None:
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Softplus"


def mix_the_rows(model: onnx.ModelProto) -> None:
    """Takes the softmax over the batch instead of the classes."""
    softmax = model.graph.node[-1]
    softmax.attribute[0].CopyFrom(helper.make_attribute("axis", 0))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (corrupt_one_weight, r"logits\[.*ONNX Runtime gives .*, torch .* allowed"),
        (lose_a_weight, "gives nan"),
        (flip_the_preprocessing, "at batch size 1, real sample"),
        (exchange_an_operator, "at batch size 1, real sample"),
        (mix_the_rows, r"probabilities\["),
    ],
)
def test_a_graph_that_differs_from_its_network_is_refused(
    trained: Checkpoint,
    repository: Path,
    converted: Callable[..., None],
    tree: Tree,
    change: Callable[[onnx.ModelProto], None],
    named: str,
) -> None:
    converted(change)
    before = tree(repository)

    with pytest.raises(ParityRefused, match=named):
        pipeline.export(Job(Path(trained.folder), repository))

    assert tree(repository) == before


def fix_the_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def break_the_graph(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (fix_the_batch, r"cannot run the model on \w+ \[2, "),
        (break_the_graph, "cannot load the model"),
    ],
)
def test_a_graph_that_onnx_runtime_cannot_run_is_refused(
    trained: Checkpoint,
    repository: Path,
    converted: Callable[..., None],
    tree: Tree,
    change: Callable[[onnx.ModelProto], None],
    named: str,
) -> None:
    converted(change)
    before = tree(repository)

    with pytest.raises(GateRefused, match=named):
        pipeline.export(Job(Path(trained.folder), repository))

    assert tree(repository) == before


def shuffle_the_classes(model: onnx.ModelProto) -> None:
    last = [tensor for tensor in model.graph.initializer if 10 in tensor.dims]
    for tensor in last:
        edit(tensor, lambda array: array[::-1])


def test_a_worse_model_is_refused_even_if_the_tolerance_let_it_pass(
    trained: Checkpoint,
    repository: Path,
    converted: Callable[..., None],
    tree: Tree,
) -> None:
    converted(shuffle_the_classes)
    before = tree(repository)
    lax = Tolerance(absolute=1e9)

    with pytest.raises(
        AccuracyRefused, match=r"of 355 test samples .* fewer than the checkpoint's"
    ):
        pipeline.export(Job(Path(trained.folder), repository, tolerance=lax))

    assert tree(repository) == before


@pytest.mark.parametrize(
    ("changes", "refusal", "named"),
    [
        ({"metrics": {"test_accuracy": 1.0, "test_n": 355}}, AccuracyRefused, "355"),
        ({"labels": list("1023456789")}, DataRefused, "labels"),
        ({"dataset": {"name": "digits", "sha256": "0" * 64}}, DataRefused, "0" * 64),
        ({"labels": list("012")}, ConversionFailed, "3 labels"),
        (
            {"normalisation": {"scale": 1 / 16, "mean": [float(10)], "std": [0.4]}},
            AccuracyRefused,
            "fewer",
        ),
        ({"weights_sha256": "0" * 64}, CheckpointError, "corrupt"),
    ],
    ids=["accuracy", "label order", "data hash", "label count", "normalisation", "weights"],
)
def test_a_checkpoint_that_does_not_keep_its_word_is_refused(
    edited: Callable[..., Path],
    repository: Path,
    tree: Tree,
    changes: dict[str, Any],
    refusal: type[Exception],
    named: str,
) -> None:
    before = tree(repository)

    with pytest.raises(refusal, match=named):
        pipeline.export(Job(edited(**changes), repository))

    assert tree(repository) == before


@pytest.mark.usefixtures("converted")
@pytest.mark.parametrize(
    ("job", "refusal", "named"),
    [
        ({"version": 1}, VersionExists, "next free one is 2"),
        ({"max_batch_size": 32}, Incompatible, "max_batch_size is 64"),
    ],
)
def test_a_repository_that_cannot_take_it_refuses_before_any_work(
    trained: Checkpoint,
    repository: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    job: dict[str, Any],
    refusal: type[Exception],
    named: str,
) -> None:
    pipeline.export(Job(Path(trained.folder), repository))
    before = tree(repository)
    conversions: list[object] = []
    monkeypatch.setattr(pipeline, "to_onnx", lambda *given: conversions.append(given))

    with pytest.raises(refusal, match=named):
        pipeline.export(Job(Path(trained.folder), repository, **job))

    assert conversions == []
    assert tree(repository) == before


def test_a_configuration_that_does_not_batch_is_refused(
    trained: Checkpoint, repository: Path
) -> None:
    (repository / "digits-mlp").mkdir()
    (repository / "digits-mlp" / "config.pbtxt").write_text('backend: "onnxruntime"\n')

    with pytest.raises(Incompatible, match="max_batch_size is 0, but this model needs 64"):
        pipeline.export(Job(Path(trained.folder), repository))


def test_a_checkpoint_whose_name_leads_out_of_the_repository_is_refused(
    edited: Callable[..., Path], repository: Path, tree: Tree
) -> None:
    before = tree(repository.parent / "repository")

    with pytest.raises(Exception, match="cannot be a model's name"):
        pipeline.export(Job(edited(recipe="../escaped"), repository))

    assert tree(repository) == before
    assert not (repository.parent / "escaped").exists()
