"""The gates on models of texts: what is published answers as torch does, with its tokeniser."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export import pipeline, recurrent, samples
from export.errors import DataRefused, ParityRefused
from export.job import Job
from export.publish import Published
from serving import passport
from serving.types import Array
from tests.training.samples import slice_of, train_briefly
from tests.training.tiny import tiny
from training import catalog
from training import checkpoint as checkpoints
from training.checkpoint import Checkpoint
from training.errors import CheckpointError

RECIPE = "sst2-gru"
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A GRU after one look at made-up reviews."""
    trained = train_briefly(RECIPE, tiny("sst2"))
    return checkpoints.save(tmp_path_factory.mktemp("runs") / RECIPE, *trained)


@pytest.fixture(scope="module")
def published(reviews: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Published:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "load_dataset", lambda *_: slice_of(tiny("sst2")))
        return pipeline.export(Job(Path(reviews.folder), tmp_path_factory.mktemp("repository")))


@pytest.fixture
def export_again(
    reviews: Checkpoint,
    published: Published,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Change], object]:
    """The same export with a graph that was tampered with."""

    def export(change: Change) -> object:
        model = onnx.load(published.folder / "model.onnx")
        change(model)
        monkeypatch.setattr(catalog, "load_dataset", lambda *_: slice_of(tiny("sst2")))
        monkeypatch.setattr(pipeline, "to_onnx", lambda *_: model.SerializeToString())
        return pipeline.export(Job(Path(reviews.folder), tmp_path / "repository"))

    return export


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def test_the_version_holds_the_tokeniser_and_the_passport_vouches_for_it(
    reviews: Checkpoint, published: Published
) -> None:
    assert (published.folder / "tokenizer.json").read_text("utf-8") == reviews.tokenizer
    assert published.passport.files.keys() == {"model.onnx", "tokenizer.json"}
    assert passport.mismatches(published.passport, published.folder) == []
    assert published.passport.task == "text"
    config = (published.folder.parent / "config.pbtxt").read_text()
    assert config.count("dims: [-1]") == 2


def test_the_same_graph_passes_again(export_again: Callable[[Change], object]) -> None:
    assert export_again(lambda _: None)


def ignore_the_mask(model: onnx.ModelProto) -> None:
    """Padding is read as if it were a word."""
    for node in model.graph.node:
        node.input[:] = ["input_ids" if name == "attention_mask" else name for name in node.input]
    ids = next(i for i in model.graph.initializer if "embedding" in i.name)
    table = onnx.numpy_helper.to_array(ids).copy()
    table[0] = 1
    ids.CopyFrom(onnx.numpy_helper.from_array(table, ids.name))


def reset_before_the_matrix(model: onnx.ModelProto) -> None:
    """As ONNX has it unless it is told otherwise, and torch has not."""
    (gru,) = nodes(model, "GRU")
    del gru.attribute[[a.name for a in gru.attribute].index("linear_before_reset")]


def read_backwards(model: onnx.ModelProto) -> None:
    (gru,) = nodes(model, "GRU")
    gru.attribute.append(onnx.helper.make_attribute("direction", "reverse"))


@pytest.mark.parametrize("change", [ignore_the_mask, reset_before_the_matrix, read_backwards])
def test_a_graph_that_answers_otherwise_is_refused(
    export_again: Callable[[Change], object], tmp_path: Path, change: Change
) -> None:
    with pytest.raises(ParityRefused):
        export_again(change)
    assert not (tmp_path / "repository").exists()


def test_another_tokeniser_than_that_of_the_data_is_refused(
    reviews: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = slice_of(tiny("sst2"))
    document = json.loads(reviews.tokenizer)
    document["truncation"]["max_length"] -= 1
    other = replace(reviews, tokenizer=json.dumps(document))
    checkpoints.save(tmp_path / RECIPE, other, reviews.build())
    monkeypatch.setattr(catalog, "load_dataset", lambda *_: dataset)
    with pytest.raises(DataRefused, match="the tokeniser of the data set sst2"):
        pipeline.export(Job(tmp_path / RECIPE, tmp_path / "repository"))


@pytest.mark.parametrize("damage", ["{}", None])
def test_a_checkpoint_whose_tokeniser_is_damaged_or_gone_is_not_read(
    reviews: Checkpoint, tmp_path: Path, damage: str | None
) -> None:
    folder = Path(checkpoints.save(tmp_path / RECIPE, reviews, reviews.build()).folder)
    assert checkpoints.load(folder).tokenizer == reviews.tokenizer
    (folder / "tokenizer.json").unlink()
    if damage is not None:
        (folder / "tokenizer.json").write_text(damage)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: (corrupt|cannot be read)"):
        checkpoints.load(folder)


def test_a_text_alone_comes_without_its_padding() -> None:
    rows = np.array([[5, 0, 6, 0, 0], [0, 0, 0, 0, 0]])
    texts = samples.Samples("real", rows, ("a", "b"), padded=True)
    assert texts.alone(0).tolist() == [[5, 0, 6]]
    assert texts.alone(1).tolist() == [[0]]


def test_extreme_texts_are_of_all_lengths_and_hold_numbers_of_no_token() -> None:
    drawn = samples.extreme_texts(vocabulary=50, length=10, count=12)
    lengths = {len(row.nonzero()[0]) for row in drawn.rows}
    assert {0, 1, 10} <= lengths
    assert drawn.rows.min() < 0
    assert drawn.rows.max() > 50


def answers(graph: Path, ids: Array, mask: Array) -> Array:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    logits: Array = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
    return logits


def test_what_stands_under_the_mask_and_behind_the_longest_text_changes_nothing(
    published: Published,
) -> None:
    graph = published.folder / "model.onnx"
    ids = np.random.default_rng(0).integers(2, 20, (3, 64))
    mask = np.ones_like(ids)
    mask[0, 5:] = 0
    wanted = answers(graph, ids, mask)
    other = np.where(mask, ids, 7)
    longer = np.pad(other, ((0, 0), (0, 6)), constant_values=9)
    np.testing.assert_allclose(answers(graph, longer, np.ones_like(longer))[1:], wanted[1:])
    np.testing.assert_allclose(answers(graph, other, mask), wanted)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 8),
        nn.GRU(4, 8, batch_first=True, num_layers=2),
        nn.GRU(4, 8, batch_first=True, bidirectional=True),
        nn.RNN(4, 8, batch_first=True, nonlinearity="relu"),
        nn.LSTM(4, 8, batch_first=True, proj_size=2),
        nn.GRU(4, 8, batch_first=True, bias=False),
    ],
    ids=["time first", "two layers", "two ways", "relu", "projection", "no bias"],
)
def test_a_layer_that_the_operator_does_not_render_stays_as_it_is(layer: nn.Module) -> None:
    model = nn.Sequential(layer)
    assert recurrent.replace(model)[0] is layer  # type: ignore[index]


def test_layers_are_replaced_wherever_they_are() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GRU(4, 8, batch_first=True)))
    recurrent.replace(model)
    assert [type(part) for part in model.modules() if not list(part.children())] == [
        nn.Linear,
        recurrent.Operator,
    ]
