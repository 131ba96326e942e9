"""Language models: with its cache, step by step, the graph says what the network says without."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import language_gates, model_config, parity
from export.errors import AccuracyRefused, ParityRefused
from export.job import OPSET, Tolerance
from export.runners import torch_runner
from export.to_onnx import to_onnx
from serving.config import Source, complete, resolve
from serving.engine.backends.generation import GenerationBackend
from serving.engine.backends.ort import OrtBackend
from serving.engine.generation.decoder import Decoder
from serving.engine.generation.generation import Generation
from serving.engine.generation.sampling import Sampling
from serving.passport import ParityProof
from tests.export.checkpoints import untrained
from tests.training.tiny import tiny
from training.catalog import RECIPES
from training.checkpoint import TOKENIZER, Checkpoint

ROWS = 5
# One layer: a conversion takes seconds, and each layer more.
SMALL = {"context": 8, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    recipe = RECIPES["shakespeare-gpt"]
    small = replace(recipe, architecture_config=recipe.architecture_config | SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "shakespeare-gpt", small)
        return untrained("shakespeare-gpt", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> bytes:
    return to_onnx(checkpoint, OPSET)


def compared(checkpoint: Checkpoint, graph: bytes) -> ParityProof:
    kinds = language_gates.samples(tiny("tiny-shakespeare"), checkpoint, ROWS)
    candidate = language_gates.cached_runner(graph)
    return parity.check(torch_runner(checkpoint), candidate, kinds, (1, 2, ROWS), Tolerance())


def test_the_graph_equals_the_network_within_the_context_and_beyond(
    checkpoint: Checkpoint, graph: bytes
) -> None:
    proof = compared(checkpoint, graph)
    assert [(batch.batch_size, batch.samples) for batch in proof.batches] == [
        (size, kind) for kind in ("real", "extreme") for size in (1, 2, ROWS)
    ]


def test_the_served_text_is_the_likeliest_by_the_network(
    checkpoint: Checkpoint, graph: bytes, tmp_path: Path
) -> None:
    (tmp_path / model_config.MODEL).write_bytes(graph)
    (tmp_path / TOKENIZER).write_text(checkpoint.tokenizer, encoding="utf-8")
    config = model_config.build("m", checkpoint.signature, 2, checkpoint.task)
    session = GenerationBackend(OrtBackend(threads=1)).open(config, tmp_path)
    source = Source("m")
    complete(resolve(config, "m", source), session.signature, source)  # fits, or raises
    decoder, greedy = Decoder(session, 2), Sampling(max_tokens=99, temperature=0)
    prompts = ([3, 1, 4, 1, 5], [9, 2])
    texts = [Generation(np.array(prompt), greedy) for prompt in prompts]
    written: list[list[int]] = [[], []]
    for step in range(20):
        members = texts[: step + 1]
        tokens = decoder.step(members, newcomer=step < 2).tokens
        for text, tokens_of, token in zip(members, written, tokens, strict=False):
            text.add(token, "")
            tokens_of.append(token)
    assert written == [likeliest(checkpoint, *case) for case in zip(prompts, (20, 19), strict=True)]


def likeliest(checkpoint: Checkpoint, prompt: list[int], count: int) -> list[int]:
    model, ids = checkpoint.build(), list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def shift_place(model: onnx.ModelProto) -> None:
    """Every token a place further: what is in the cache is at another distance."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "positions":
                node.input[index] = "shifted"
    one = onnx.numpy_helper.from_array(np.ones(1, np.int64), "one")
    model.graph.initializer.append(one)
    model.graph.node.insert(0, onnx.helper.make_node("Add", ["positions", "one"], ["shifted"]))


def scale_weights(model: onnx.ModelProto) -> None:
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    scaled = onnx.numpy_helper.to_array(weights) * np.float32(1.01)
    weights.CopyFrom(onnx.numpy_helper.from_array(scaled, weights.name))


@pytest.mark.parametrize("change", [shift_place, scale_weights])
def test_a_graph_that_says_something_else_is_refused(
    checkpoint: Checkpoint, graph: bytes, change: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load_from_string(graph)
    change(model)
    with pytest.raises(ParityRefused):
        compared(checkpoint, model.SerializeToString())


def test_the_likelihood_of_the_held_out_text_is_that_of_the_checkpoint(
    checkpoint: Checkpoint, graph: bytes
) -> None:
    dataset = tiny("tiny-shakespeare")
    logits = torch_runner(checkpoint)(dataset.test_x)["logits"]
    nats = torch.nn.functional.cross_entropy(
        torch.tensor(logits).transpose(1, 2), torch.tensor(dataset.test_y)
    ).item()
    candidate = language_gates.cached_runner(graph)
    stated = replace(checkpoint, metrics={"test_nats": nats})
    proof = language_gates.check_nats(candidate, dataset, stated)
    assert proof.value == pytest.approx(nats, rel=1e-5)
    assert proof.n == dataset.test_y.size
    better = replace(checkpoint, metrics={"test_nats": nats * 0.999})
    with pytest.raises(AccuracyRefused, match="nats per token of the held-out text, more than"):
        language_gates.check_nats(candidate, dataset, better)
