"""Texts become numbers by the words of the training texts, and padding changes no answer."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase
from torch import Tensor, nn

from training import batches
from training.data import ag_news, sst2, tokens
from training.errors import DataError
from training.models.encoder import Encoder
from training.models.recurrent import CELLS, Recurrent
from training.tokens import PADDING, UNKNOWN, Trim, longest

TEXTS = ["The film is good", "the film is bad", "a good, good film"]
VOCABULARY = 50
NETS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"{cell} {directions}": partial(Recurrent, cell, VOCABULARY, 8, 16, 3, 0.5, directions, 0.5)
        for cell in CELLS
        for directions in (1, 2)
    },
    "encoder": partial(Encoder, VOCABULARY, 16, 2, 2, 3, 0.5, 0.5),
    "encoder with a convolution": partial(Encoder, VOCABULARY, 16, 2, 2, 3, 0.5, 0.5, 3),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokens.learn(TEXTS, Lowercase(), VOCABULARY, 6)


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = NETS[request.param]()
    return made.eval()


def test_the_same_texts_give_the_same_tokeniser(tokenizer: Tokenizer) -> None:
    again = tokens.learn(TEXTS, Lowercase(), VOCABULARY, 6)
    assert again.to_str() == tokenizer.to_str()
    assert longest(again.to_str()) == 6


def test_texts_are_padded_on_the_right_and_cut_off(tokenizer: Tokenizer) -> None:
    ids = tokens.encode(tokenizer, ["Good", "film " * 20])
    assert ids.shape == (2, 6)
    assert ids[0, 0] != PADDING
    assert set(ids[0, tokens.encode(tokenizer, ["good"]).shape[1] :]) == {PADDING}
    assert np.all(ids[1] != PADDING)


def test_of_a_longer_text_the_start_is_kept_or_the_end() -> None:
    start, end = (
        tokens.learn(TEXTS, Lowercase(), VOCABULARY, 2, keep) for keep in ("start", "end")
    )
    text = "bad good film is"
    assert tokens.encode(start, [text]).tolist() == tokens.encode(start, ["bad good"]).tolist()
    assert tokens.encode(end, [text]).tolist() == tokens.encode(end, ["film is"]).tolist()


def test_a_character_that_was_never_seen_is_unknown(tokenizer: Tokenizer) -> None:
    assert UNKNOWN in tokens.encode(tokenizer, ["z"])
    assert UNKNOWN not in tokens.encode(tokenizer, ["good"])


def test_a_text_without_a_word_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="text 1 of 2"):
        tokens.encode(tokenizer, ["good", " "])


@pytest.mark.parametrize(
    ("typed", "written"),
    [("Don't go.", "do n't go ."), ("It\u2019s (so) so", "it 's -lrb- so -rrb- so")],
)
def test_typed_reviews_are_cut_like_those_of_the_treebank(typed: str, written: str) -> None:
    tokenizer = tokens.learn([written], sst2.NORMALIZER, 100, 32)
    np.testing.assert_array_equal(
        tokens.encode(tokenizer, [typed]), tokens.encode(tokenizer, [written])
    )


def test_typed_news_are_cut_like_the_tokenised_articles() -> None:
    raw = 'The "Ansari X Prize": $10 million; for\\privately funded (SPACE.com)'
    tokenised = "the ansari x prize $10 million for privately funded ( space . com )"
    tokenizer = tokens.learn([tokenised], ag_news.NORMALIZER, 200, 64)
    np.testing.assert_array_equal(
        tokens.encode(tokenizer, [raw]), tokens.encode(tokenizer, [tokenised])
    )


def test_a_table_of_reviews_is_read_or_refused_by_its_line() -> None:
    assert sst2.parse('sentence\tlabel\n"so good \t1\n', "x.tsv") == (['"so good'], [1])
    for broken in ("text\tlabel\n", "sentence\tlabel\nfine\t2\n", "sentence\tlabel\nfine\n"):
        with pytest.raises(DataError, match=r"^x\.tsv: "):
            sst2.parse(broken, "x.tsv")


def test_articles_are_read_or_refused_by_their_row() -> None:
    assert ag_news.parse('"3","Oil","Up ""again"""\n', "x.csv") == (['Oil Up "again"'], [2])
    assert ag_news.parse_tokenised("1\tpeace talks\n") == (["peace talks"], [0])
    with pytest.raises(DataError, match="row 2 is not a class"):
        ag_news.parse('"3","a","b"\n"5","a","b"\n', "x.csv")


@torch.no_grad()
def test_padding_and_neighbours_change_no_answer(net: nn.Module) -> None:
    random = np.random.default_rng(0)
    rows = [torch.tensor(random.integers(1, VOCABULARY, n)) for n in (1, 7, 3, 12)]
    batch = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    alone = torch.cat([net(row[None]) for row in rows])
    torch.testing.assert_close(net(batch), alone, rtol=1e-5, atol=1e-6)
    wider = nn.functional.pad(batch, (0, 9), value=PADDING)
    torch.testing.assert_close(net(wider), alone, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_order_of_words_matters(net: nn.Module) -> None:
    text = torch.arange(1, 9)[None]
    assert not torch.allclose(net(text), net(text.flip(1)), atol=1e-4)


@torch.no_grad()
def test_numbers_of_no_token_are_unknown_and_nothing_at_all_is_answered(net: nn.Module) -> None:
    odd = torch.tensor([[VOCABULARY, -1, 2**62]])
    torch.testing.assert_close(net(odd), net(torch.full_like(odd, UNKNOWN)))
    assert net(torch.full((1, 4), PADDING)).isfinite().all()


@torch.no_grad()
def test_a_convolution_reads_what_stands_around_a_token_and_no_further() -> None:
    net = Encoder(VOCABULARY, 16, 2, 2, 3, 0.0, kernel=3).eval()
    assert net.phrases is not None
    read: list[Tensor] = []
    net.phrases.register_forward_hook(lambda layer, given, made: read.append(made))
    net(torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 8, 10]]))
    one, other = read[0].mT
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3], other[3], atol=1e-4)


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="a kernel of 4 tokens has no token in its middle"):
        Encoder(VOCABULARY, 16, 2, 2, 3, 0.0, kernel=4)


def test_columns_of_padding_alone_are_trimmed() -> None:
    ids = torch.tensor([[5, 0, 0, 0], [5, 0, 6, 0]])
    assert Trim()(ids).tolist() == [[5, 0, 0], [5, 0, 6]]
    assert Trim()(torch.zeros(2, 4, dtype=torch.int64)).shape == (2, 1)


def test_batches_hold_texts_of_like_length_and_each_text_once() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(1, 100, (1000,))
    drawn = list(batches.draw(1000, 10, 100, lengths, torch.device("cpu")))
    assert sorted(torch.cat(drawn).tolist()) == list(range(1000))
    spreads = [int(lengths[some].max() - lengths[some].min()) for some in drawn]
    assert np.mean(spreads) < 10


def test_without_lengths_batches_are_in_random_order() -> None:
    torch.manual_seed(0)
    drawn = torch.cat(list(batches.draw(100, 10, 10, None, torch.device("cpu"))))
    assert sorted(drawn.tolist()) == list(range(100)) != drawn.tolist()
