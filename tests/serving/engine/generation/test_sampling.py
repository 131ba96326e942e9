"""How the next token is chosen, and what may be asked of the choice."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from serving.engine.generation.sampling import Sampler, Sampling, read_sampling
from serving.errors import InvalidArgument

LOGITS = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))


def drawn(count: int = 2000, **how: Any) -> Counter[int]:
    sampler = Sampler(Sampling(max_tokens=1, **how))
    return Counter(sampler.choose(LOGITS) for _ in range(count))


@pytest.mark.parametrize("how", [{"temperature": 0}, {"top_k": 1}, {"top_p": 0.4}])
def test_the_likeliest_token_is_taken(how: dict[str, Any]) -> None:
    assert drawn(50, **how).keys() == {1}


def test_temperatures_near_zero_take_the_likeliest_as_well() -> None:
    assert drawn(50, temperature=1e-300).keys() == {1}


def test_tokens_are_drawn_by_their_probabilities() -> None:
    shares = {token: count / 2000 for token, count in drawn().items()}
    assert shares == pytest.approx({0: 0.1, 1: 0.5, 2: 0.15, 3: 0.25}, abs=0.05)


def test_a_higher_temperature_draws_the_unlikely_more_often() -> None:
    assert drawn(temperature=5.0)[0] > drawn()[0]


def test_top_k_leaves_the_likeliest_so_many() -> None:
    assert drawn(top_k=2).keys() == {1, 3}


def test_top_p_leaves_the_fewest_that_are_likely_enough() -> None:
    assert drawn(top_p=0.6).keys() == {1, 3}


def test_top_k_may_exceed_the_vocabulary() -> None:
    assert drawn(top_k=100).keys() == {0, 1, 2, 3}


def test_the_same_seed_draws_the_same_tokens() -> None:
    draws = [
        [sampler.choose(LOGITS) for _ in range(30)]
        for sampler in (Sampler(Sampling(1, seed=seed)) for seed in (5, 5, 6))
    ]
    assert draws[0] == draws[1] != draws[2]


def test_what_is_not_said_is_left_to_chance() -> None:
    first, second = (read_sampling({}, None, True, 4096) for _ in range(2))
    assert (first.max_tokens, first.temperature, first.top_k, first.top_p) == (100, 1.0, 0, 1.0)
    assert first.seed != second.seed


def test_what_is_said_of_the_way_through_the_server_is_for_others() -> None:
    parameters = {"priority": 1, "timeout": 5, "triton_enable_empty_final_response": True}
    assert read_sampling(parameters, None, True, 10).max_tokens == 10


@pytest.mark.parametrize("stop", [["a", "b"], []])
def test_stop_may_be_a_list(stop: list[str]) -> None:
    assert read_sampling({}, stop, True, 10).stop == tuple(stop)


def test_stop_may_be_one_text_among_the_parameters() -> None:
    assert read_sampling({"stop": "a"}, None, True, 10).stop == ("a",)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": -0.1}, "'temperature' must be a number of 0 or more, got -0.1"),
        ({"temperature": float("nan")}, "'temperature' must be"),
        ({"temperature": float("inf")}, "'temperature' must be"),
        ({"temperature": "1"}, "'temperature' must be"),
        ({"temperature": True}, "'temperature' must be"),
        ({"top_k": 0}, "'top_k' must be a whole number of 1 or more, got 0"),
        ({"top_k": 1.0}, "'top_k' must be"),
        ({"top_p": 0}, "'top_p' must be a number above 0, up to 1, got 0"),
        ({"top_p": 1.1}, "'top_p' must be"),
        ({"max_tokens": 0}, "'max_tokens' must be a whole number from 1 to 10, got 0"),
        ({"max_tokens": 11}, "'max_tokens' must be"),
        ({"seed": -1}, "'seed' must be"),
        ({"stream": 1}, "'stream' must be true or false, got 1"),
        ({"stop": 1}, "'stop' must be a text, got 1"),
        ({"stop": ""}, "stop: expected up to 16 texts of 1 to 1000 characters"),
        ({"max_length": 5}, "unknown parameter 'max_length'; a generation takes max_tokens, seed"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_sampling(parameters, None, True, 10)


def test_stop_is_given_once() -> None:
    with pytest.raises(InvalidArgument, match="stop is given twice"):
        read_sampling({"stop": "a"}, ["b"], True, 10)
