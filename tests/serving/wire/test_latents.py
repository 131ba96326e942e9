"""Latents by a seed and a number of pictures, and what is wrong with those that cannot be drawn."""

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, Malformed
from serving.types import Array, TensorSpec
from serving.wire import latents

SPEC = TensorSpec("latent", Datatype.FP32, (5,))


def draw(body: bytes) -> Array:
    drawn = latents.decode(body, SPEC, 64)
    assert drawn is not None
    return drawn


def test_a_seed_gives_the_same_latents_however_many_there_are() -> None:
    few, many = draw(b'{"seed": 7}'), draw(b'{"seed": 7, "pictures": 40}')
    assert (few.shape, many.shape) == ((1, 5), (40, 5))
    assert few.dtype == np.float32
    np.testing.assert_array_equal(few, many[:1])
    assert not np.array_equal(few, draw(b'{"seed": 8}'))


def test_without_a_seed_they_are_new_each_time() -> None:
    assert not np.array_equal(draw(b"{}"), draw(b"{}"))


def test_they_are_standard_normal() -> None:
    many = np.concatenate([draw(b'{"seed": %d, "pictures": 64}' % seed) for seed in range(20)])
    assert (many.mean(), many.std()) == pytest.approx((0, 1), abs=0.05)


@pytest.mark.parametrize("body", [b"[1, 2, 3, 4, 5]", b'{"inputs": [1, 2, 3, 4, 5]}'])
def test_numbers_themselves_are_left_to_others(body: bytes) -> None:
    assert latents.decode(body, SPEC, 64) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"pictures": 65}', "pictures: expected a whole number from 1 to 64, got 65"),
        (b'{"pictures": 0}', "pictures: expected a whole number from 1 to 64, got 0"),
        (b'{"pictures": 2.5}', "pictures: .* got 2.5"),
        (b'{"pictures": true}', "pictures: .* got true"),
        (b'{"seed": -1}', "seed: expected a whole number from 0 to .*, got -1"),
        (b'{"seed": 99999999999999999999}', "seed: "),
        (b'{"seed": "7"}', "seed: .* got '7'"),
        (b'{"sead": 7}', "body: expected seed and pictures, or inputs, got 'sead'"),
        (b"{", "JSON"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(body: bytes, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        latents.decode(body, SPEC, 64)


@pytest.mark.parametrize(
    ("datatype", "dims"), [(Datatype.FP32, (-1,)), (Datatype.INT64, (5,)), (Datatype.BYTES, (5,))]
)
def test_an_input_of_another_kind_is_not_drawn(datatype: Datatype, dims: tuple[int, ...]) -> None:
    spec = TensorSpec("latent", datatype, dims)
    with pytest.raises(InvalidArgument, match=r"input 'latent' is .* send the input under inputs"):
        latents.decode(b'{"seed": 7}', spec, 64)
    assert latents.decode(b"[1, 2, 3, 4, 5]", spec, 64) is None
