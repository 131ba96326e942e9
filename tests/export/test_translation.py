"""Translators: the search in the graph finds what the network's own search finds, in any batch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import parity, pipeline, translation_gates, variants
from export.errors import AccuracyRefused, ParityRefused, VariantRefused
from export.job import OPSET, Job, Tolerance
from export.onnx_model import OnnxModel
from export.to_onnx import to_onnx
from serving.passport import ParityProof
from tests.export.checkpoints import untrained
from tests.training.samples import slice_of
from tests.training.tiny import tiny
from training import bleu, catalog
from training import checkpoint as checkpoints
from training.catalog import RECIPES
from training.checkpoint import RECORD, Checkpoint
from training.data.dataset import Dataset

RECIPE = "multi30k-transformer"
ROWS = 6
# One layer: a conversion takes seconds, and each layer more.
SMALL = {"vocabulary": 300, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    recipe = RECIPES[RECIPE]
    small = replace(recipe, architecture_config=recipe.architecture_config | SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, RECIPE, small)
        return untrained(RECIPE, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> bytes:
    return to_onnx(checkpoint, OPSET)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return slice_of(tiny("multi30k"), 1, 8)


def compared(checkpoint: Checkpoint, dataset: Dataset, graph: bytes) -> ParityProof:
    kinds = translation_gates.samples(dataset, checkpoint, ROWS)
    reference = translation_gates.reference(checkpoint)
    return parity.check(reference, OnnxModel(graph), kinds, (1, 2, ROWS), Tolerance())


def test_the_graph_finds_what_the_network_finds_whoever_shares_the_batch(
    checkpoint: Checkpoint, dataset: Dataset, graph: bytes
) -> None:
    proof = compared(checkpoint, dataset, graph)
    assert [(batch.batch_size, batch.samples) for batch in proof.batches] == [
        (size, kind) for kind in ("real", "extreme") for size in (1, 2, ROWS)
    ]


def test_the_gate_tries_several_beams_within_a_batch(
    checkpoint: Checkpoint, dataset: Dataset
) -> None:
    for kind in translation_gates.samples(dataset, checkpoint, ROWS):
        assert np.unique(kind.batch(slice(0, ROWS))["beams"]).tolist() == [1, 2, 4, 5]


def test_more_beams_find_better_translations(dataset: Dataset, graph: bytes) -> None:
    model, ids = OnnxModel(graph), dataset.test_x
    scores = [
        model(translation_gates.feed(ids, np.full((len(ids), 1), beams)))["score"].mean()
        for beams in (1, 2, 8)
    ]
    assert scores == sorted(scores)
    assert scores[0] < scores[2]


@pytest.mark.parametrize(("asked", "meant"), [(0, 1), (-5, 1), (9, 8), (2**62, 8)])
def test_a_number_of_beams_out_of_range_is_the_nearest_within(
    dataset: Dataset, graph: bytes, asked: int, meant: int
) -> None:
    model = OnnxModel(graph)
    answers = [
        model(translation_gates.feed(dataset.test_x[:1], np.array([[beams]])))
        for beams in (asked, meant)
    ]
    for name, wanted in answers[1].items():
        np.testing.assert_array_equal(answers[0][name], wanted)


def test_of_a_text_that_is_too_long_the_beginning_is_translated(graph: bytes) -> None:
    model, ids = OnnxModel(graph), np.full((1, 20), 270)
    long, cut = (
        model(translation_gates.feed(each, np.ones((1, 1), np.int64))) for each in (ids, ids[:, :8])
    )
    for name, wanted in cut.items():
        np.testing.assert_array_equal(long[name], wanted)


def test_what_is_before_the_loop_and_in_it_shares_its_weights(graph: bytes) -> None:
    weights = onnx.load_from_string(graph).graph.initializer
    contents = [(*each.dims, onnx.numpy_helper.to_array(each).tobytes()) for each in weights]
    large = [content for content in contents if len(content[-1]) > 1000]
    assert len(set(large)) == len(large) > 5


def scale_weights(model: onnx.ModelProto) -> None:
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    scaled = onnx.numpy_helper.to_array(weights) * np.float32(1.01)
    weights.CopyFrom(onnx.numpy_helper.from_array(scaled, weights.name))


def ignore_the_mask(model: onnx.ModelProto) -> None:
    """What is padding is read as if it were a word."""
    for node in model.graph.node:
        node.input[:] = ["input_ids" if name == "attention_mask" else name for name in node.input]


def forget_the_beams(model: onnx.ModelProto) -> None:
    """Every row is searched by one."""
    one = onnx.numpy_helper.from_array(np.ones((1, 1), np.int64), "one")
    model.graph.initializer.append(one)
    for node in model.graph.node:
        node.input[:] = ["one" if name == "beams" else name for name in node.input]


@pytest.mark.parametrize("change", [scale_weights, ignore_the_mask, forget_the_beams])
def test_a_graph_that_says_something_else_is_refused(
    checkpoint: Checkpoint,
    dataset: Dataset,
    graph: bytes,
    change: Callable[[onnx.ModelProto], None],
) -> None:
    model = onnx.load_from_string(graph)
    change(model)
    with pytest.raises(ParityRefused):
        compared(checkpoint, dataset, model.SerializeToString())


def stated(checkpoint: Checkpoint, value: float) -> Checkpoint:
    return replace(checkpoint, metrics={"test_bleu": value})


def test_a_bleu_below_the_checkpoint_s_is_refused(
    checkpoint: Checkpoint, dataset: Dataset, graph: bytes
) -> None:
    with pytest.raises(
        AccuracyRefused, match=r"a BLEU of \d+\.\d\d over the test texts, less than"
    ):
        translation_gates.check_bleu(OnnxModel(graph), dataset, stated(checkpoint, 99.0))
    with pytest.raises(AccuracyRefused, match="states no test BLEU"):
        translation_gates.check_bleu(OnnxModel(graph), dataset, checkpoint)


def test_the_proof_is_what_sacrebleu_says_of_the_network_s_own_translations(
    checkpoint: Checkpoint, dataset: Dataset, graph: bytes
) -> None:
    proof = translation_gates.check_bleu(OnnxModel(graph), dataset, stated(checkpoint, 0.0))
    ids = dataset.test_x
    own = translation_gates.reference(checkpoint)
    for beams, value in ((proof.beams, proof.value), (1, proof.greedy)):
        found = own(translation_gates.feed(ids, np.full((len(ids), 1), beams)))["output_ids"]
        texts, references = (
            bleu.texts(checkpoint.tokenizer, torch.tensor(each)) for each in (found, dataset.test_y)
        )
        assert value == pytest.approx(bleu.corpus(texts, references).score)
    assert (proof.n, proof.checkpoint) == (8, 0.0)


def test_int8_is_refused_by_name(checkpoint: Checkpoint) -> None:
    job = Job(Path(checkpoint.folder), variants=("int8",))
    with pytest.raises(VariantRefused, match="translators are exported in fp32 only"):
        variants.check(job, checkpoint)


def test_what_is_published_says_how_well_it_translates(
    checkpoint: Checkpoint,
    dataset: Dataset,
    graph: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = Path(checkpoint.folder) / RECORD
    document = json.loads(record.read_text())
    document["metrics"] = {"test_bleu": 0.0}
    document["dataset"]["sha256"] = dataset.sha256
    folder = tmp_path / RECIPE
    folder.mkdir()
    for file in record.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / RECORD).write_text(json.dumps(document))
    monkeypatch.setattr(catalog, "load_dataset", lambda *_: dataset)
    monkeypatch.setattr(pipeline, "to_onnx", lambda *_: graph)
    monkeypatch.setattr(pipeline, "PARITY_ROWS", 2)
    published = pipeline.export(Job(folder, tmp_path / "repository", max_batch_size=2))
    passport = published.passport
    assert passport.translation is not None
    assert passport.translation.signature.startswith("nrefs:1|case:mixed")
    assert (passport.task, passport.accuracy, passport.error) == ("translation", None, None)
    assert passport.files.keys() == {"model.onnx", "tokenizer.json"}
    config = (published.folder.parent / "config.pbtxt").read_text()
    assert 'string_value: "translation"' in config
    assert checkpoints.load(folder).signature.inputs[2].name == "beams"
