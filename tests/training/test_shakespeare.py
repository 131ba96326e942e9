"""The characters of Shakespeare, and the network that goes on with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from training.catalog import load_dataset
from training.data import shakespeare
from training.data.dataset import Dataset
from training.errors import DataError
from training.models.gpt import Gpt


@pytest.fixture(scope="module")
def plays(data_dir: Path) -> Dataset:
    return load_dataset("tiny-shakespeare", data_dir)


def decoded(dataset: Dataset, ids: np.ndarray) -> str:
    text: str = Tokenizer.from_str(dataset.tokenizer).decode(ids.tolist())
    return text


def test_the_text_begins_in_the_training_windows(plays: Dataset) -> None:
    assert decoded(plays, plays.train_x[0]).startswith("First Citizen:\nBefore we proceed")


def test_the_last_tenth_is_held_out(plays: Dataset, data_dir: Path) -> None:
    text = (data_dir / "tiny-shakespeare" / "input.txt").read_text()
    held_out = text[int(len(text) * 0.9) :]
    tested = decoded(plays, plays.test_x.reshape(-1))
    assert held_out.startswith(tested)
    assert len(held_out) - len(tested) <= shakespeare.LENGTH
    assert decoded(plays, plays.train_y[-1]) in text[: -len(held_out)]


def test_the_target_is_the_character_that_follows(plays: Dataset) -> None:
    for x, y in ((plays.train_x, plays.train_y), (plays.test_x, plays.test_y)):
        assert x.shape == y.shape
        assert (x[:, 1:] == y[:, :-1]).all()


def test_there_are_65_characters_each_with_a_number(plays: Dataset) -> None:
    assert np.unique(plays.train_x).tolist() == list(range(65))


def test_a_text_of_no_whole_window_is_refused() -> None:
    with pytest.raises(DataError, match="128 characters are too few for a window of 128"):
        shakespeare.windows(np.zeros(128, np.int64), 1)


def network() -> Gpt:
    torch.manual_seed(0)
    return Gpt(vocabulary=7, context=4, width=8, heads=2, layers=1, dropout=0.0).eval()


def test_no_place_looks_ahead() -> None:
    model, ids = network(), torch.tensor([[1, 2, 3, 4]])
    other = ids.clone()
    other[0, 3] = 5
    difference = (model(ids) - model(other)).abs().amax(dim=2)[0]
    assert (difference[:3] == 0).all()
    assert difference[3] > 0


def test_places_look_back_on_the_context_and_no_further() -> None:
    model, ids = network(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    other = ids.clone()
    other[0, 0] = 0
    difference = (model(ids) - model(other)).abs().amax(dim=2)[0]
    assert (difference[:4] > 0).all()
    torch.testing.assert_close(difference[4:], torch.zeros(2), rtol=0, atol=1e-6)


def test_what_places_say_depends_on_how_far_apart_they_are_alone() -> None:
    model, ids = network(), torch.tensor([[3, 1, 2, 3, 1, 2, 3]])
    logits = model(ids)[0]
    torch.testing.assert_close(logits[3], logits[6])


def test_a_width_that_the_heads_do_not_share_is_refused() -> None:
    with pytest.raises(ValueError, match="a width of 8 is no even multiple of 3 heads"):
        Gpt(vocabulary=7, context=4, width=8, heads=3, layers=1, dropout=0.0)
