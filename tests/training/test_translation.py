"""Multi30k's captions, the network that translates them, the search, and how it is scored."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tests.training.samples import slice_of
from tests.training.tiny import tiny
from training import beam_search, bleu, checkpoint, loop, tasks
from training.beam_search import Hypothesis
from training.catalog import RECIPES
from training.config import changed
from training.data import multi30k
from training.data.multi30k import Pairs
from training.errors import DataError
from training.models.translator import Translator
from training.spec import UNCHANGED
from training.tokens import END, PADDING, START

RECIPE = "multi30k-transformer"
SMALL = {"vocabulary": 300, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def captions(data_dir: Path) -> Pairs:
    return multi30k.read(multi30k.TEST, data_dir)


@pytest.fixture(scope="module")
def tokenizer(captions: Pairs) -> Tokenizer:
    return multi30k.learn(line for language in captions for line in language[:300])


def network(vocabulary: int = 7) -> Translator:
    torch.manual_seed(0)
    return Translator(vocabulary, width=8, heads=2, layers=2, dropout=0.0).eval()


def test_each_german_line_has_its_english_one(captions: Pairs) -> None:
    german, english = captions
    assert (len(german), len(english)) == (1000, 1000)
    assert german[0].startswith("Ein Mann mit einem orangefarbenen Hut")
    assert english[0] == "A man in an orange hat starring at something."


def test_files_of_unequal_length_are_refused(data_dir: Path) -> None:
    with pytest.raises(DataError, match=r"test_2016_flickr.de.gz: 1000 lines, but 29000"):
        multi30k.read((multi30k.TEST[0], multi30k.TRAIN[1]), data_dir)


def test_what_is_written_is_the_very_text_that_was_read(
    tokenizer: Tokenizer, captions: Pairs
) -> None:
    _, english = multi30k.encode(tokenizer, captions)
    assert bleu.texts(tokenizer.to_str(), torch.tensor(english)) == captions[1]


def test_a_text_of_unheard_characters_keeps_them(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(" Żółw  →\n日本 ").ids) == "Żółw → 日本"


def test_a_target_goes_from_its_start_to_its_end(tokenizer: Tokenizer, captions: Pairs) -> None:
    german, english = multi30k.encode(tokenizer, captions)
    assert (english[:, 0] == START).all()
    assert (np.count_nonzero(english == END, axis=1) == 1).all()
    assert (english[np.arange(1000), np.count_nonzero(english, axis=1) - 1] == END).all()
    assert not np.isin(german, (START, END)).any()


def test_no_place_of_the_translation_looks_ahead() -> None:
    model, source, target = network(), torch.tensor([[4, 5]]), torch.tensor([[2, 4, 5, 6]])
    other = target.clone()
    other[0, 3] = 4
    difference = (model(source, target) - model(source, other)).abs().amax(dim=2)[0]
    assert (difference[:3] == 0).all()
    assert difference[3] > 0


def test_every_place_of_the_translation_sees_the_whole_text() -> None:
    model, target = network(), torch.tensor([[2, 4, 5]])
    one, other = (model(torch.tensor([[4, 5, last]]), target) for last in (4, 6))
    assert ((one - other).abs().amax(dim=2) > 0).all()


def test_padding_behind_a_text_changes_nothing() -> None:
    model, target = network(), torch.tensor([[2, 4, 5]])
    torch.testing.assert_close(
        model(torch.tensor([[4, 5, PADDING, PADDING]]), target),
        model(torch.tensor([[4, 5]]), target),
    )


def test_the_loss_of_a_text_is_the_mean_over_its_tokens_without_padding() -> None:
    task, model = tasks.make("translation", UNCHANGED), network()
    x = torch.tensor([[4, 5, 6], [4, PADDING, PADDING]])
    y = torch.tensor([[START, 4, 6, 5, END, PADDING], [START, 5, END, *[PADDING] * 3]])
    together = task.loss(task.outputs(model, x, y), y, reduction="sum").item()
    alone = [
        task.loss(task.outputs(model, some, wanted), wanted).item()
        for some, wanted in ((x[:1], y[:1, :5]), (x[1:, :1], y[1:, :3]))
    ]
    assert together == pytest.approx(sum(alone), rel=1e-5)


def logarithm(model: Translator, source: Tensor, tokens: tuple[int, ...]) -> float:
    """Of the chance that the network gives to `tokens`, of those that may be written."""
    written = torch.tensor([[START, *tokens]])
    chances = model(source[None], written)[0, :-1].log_softmax(dim=1)
    return float(sum(chances[place, token] for place, token in enumerate(tokens)))


@torch.no_grad()
def test_a_wide_beam_finds_the_best_of_all_translations() -> None:
    model, source, limit = network(), torch.tensor([4, 5, 6]), 3
    whole = [
        tokens
        for length in range(1, limit + 1)
        for tokens in product((END, 4, 5, 6), repeat=length)
        if END not in tokens[:-1] and (tokens[-1] == END or length == limit)
    ]
    best = max(whole, key=lambda tokens: logarithm(model, source, tokens) / len(tokens))
    found = beam_search.translate(model, source, 4**limit, limit)
    assert found.tokens == best
    assert found.score == pytest.approx(logarithm(model, source, best) / len(best), abs=1e-5)


@torch.no_grad()
def test_a_beam_of_one_takes_the_likeliest_token_each_time() -> None:
    model, source = network(), torch.tensor([4, 5, 6])
    written = [START]
    while END not in written and len(written) <= 5:
        logits = model(source[None], torch.tensor([written]))[0, -1]
        written.append(max((END, 4, 5, 6), key=lambda token: float(logits[token])))
    assert beam_search.translate(model, source, 1, 5).tokens == tuple(written[1:])


def test_the_score_is_the_mean_so_that_the_short_are_not_favoured() -> None:
    assert Hypothesis((4, 5, 6, END), -2.0).score > Hypothesis((END,), -1.0).score


def test_what_was_written_by_people_has_a_bleu_of_100() -> None:
    texts = ["A man in an orange hat.", "A dog runs on the green grass."]
    scored = bleu.corpus(texts, texts)
    assert scored.score == pytest.approx(100)
    assert scored.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert bleu.corpus(["A man in a red hat.", "A dog sleeps."], texts).score < 50


def test_the_checkpoint_says_how_well_the_network_translates(tmp_path: Path) -> None:
    dataset = slice_of(tiny("multi30k"), 300, 8)
    config = changed(RECIPES[RECIPE].config, epochs=3, batch_size=20, lr=0.03, device="cpu")
    small = RECIPES[RECIPE].architecture_config | SMALL
    trained, model = loop.train(RECIPE, config, dataset, architecture=small)
    assert trained.history[-1].test_loss < trained.history[0].test_loss
    rebuilt = checkpoint.save(tmp_path / RECIPE, trained, model).build()
    task = tasks.make(trained.task, trained.normalisation, trained.tokenizer)
    answers = task.answers(rebuilt, torch.tensor(dataset.test_x))
    texts = (bleu.texts(trained.tokenizer, ids) for ids in (answers, torch.tensor(dataset.test_y)))
    assert trained.metrics["test_bleu"] == bleu.corpus(*texts).score > 0
    assert trained.signature.outputs[0].shape == answers.shape[1:] == (8,)
