"""Training itself: it repeats, it follows its schedule, and it stops where it must."""

from dataclasses import replace

import pytest
import torch

from tests.training.samples import slice_of, train_briefly
from training.catalog import RECIPES
from training.config import TrainConfig
from training.craft import learning_rate
from training.curve import Epoch
from training.data.dataset import Dataset
from training.errors import ConfigError, DivergenceError
from training.loop import batches_per_epoch, pick_device, train


@pytest.mark.parametrize("recipe", ["digits-mlp", "mnist-cnn"])
def test_runs_with_the_same_seed_repeat_bit_for_bit(
    recipe: str, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(RECIPES[recipe].dataset)
    first, second = (train_briefly(recipe, dataset)[1].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_runs_with_other_seeds_differ(digits: Dataset) -> None:
    first, second = (train_briefly("digits-mlp", digits, seed)[1] for seed in (0, 1))
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_digits_are_learnt(digits: Dataset) -> None:
    checkpoint, _ = train("digits-mlp", replace(RECIPES["digits-mlp"].config, epochs=5), digits)
    assert checkpoint.metrics["test_accuracy"] > 0.95


def test_every_batch_and_every_epoch_is_reported(digits: Dataset) -> None:
    config = replace(RECIPES["digits-mlp"].config, epochs=2, batch_size=100)
    batches: list[int] = []
    epochs: list[Epoch] = []
    train("digits-mlp", config, slice_of(digits), lambda: batches.append(1), epochs.append)
    assert len(batches) == 6
    assert [row.epoch for row in epochs] == [1, 2]


def test_a_batch_larger_than_the_data_is_all_of_the_data(digits: Dataset) -> None:
    config = replace(RECIPES["digits-mlp"].config, epochs=1, batch_size=10**6)
    assert batches_per_epoch(len(digits.train_x), config) == 1
    train("digits-mlp", config, slice_of(digits))


def test_a_loss_that_is_no_number_stops_the_run(digits: Dataset) -> None:
    config = replace(RECIPES["digits-mlp"].config, lr=1e30)
    with pytest.raises(DivergenceError, match=r"the loss became (nan|inf).*lower --lr than 1e\+30"):
        train("digits-mlp", config, digits)


def test_a_last_step_that_goes_too_far_stops_the_run_as_well(digits: Dataset) -> None:
    one_step = replace(RECIPES["digits-mlp"].config, epochs=1, batch_size=10**6, lr=1e38)
    with pytest.raises(DivergenceError, match=r"test loss became (nan|inf).*than 1e\+38"):
        train("digits-mlp", one_step, digits)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    config = TrainConfig(lr=0.5, warmup=0.25)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert max(rates) == rates[25] == 0.5
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[100] == 0


def test_a_run_of_one_step_has_a_learning_rate() -> None:
    assert 0 < learning_rate(0, 1, TrainConfig(lr=0.5)) <= 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_an_error() -> None:
    assert pick_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="--device cuda"):
        pick_device("cuda")
