"""Examples as people write them: nested or flat, one or several, bare or under a key."""

import json
from typing import Any

import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import TensorSpec
from serving.wire import json_examples

ONE = [[[1, 2], [3, 4]]]


def decoded(data: Any, dims: tuple[int, ...] = (2, 2)) -> Any:
    spec = TensorSpec("x", Datatype.UINT8, dims)
    return json_examples.decode(json.dumps(data).encode(), spec).tolist()


@pytest.mark.parametrize("data", [ONE, ONE[0], [1, 2, 3, 4], {"inputs": ONE}, {"inputs": ONE[0]}])
def test_one_example_is_one_row_however_it_is_written(data: Any) -> None:
    assert decoded(data) == ONE


def test_several_examples_are_several_rows() -> None:
    assert decoded([[1, 2], [3, 4], [5, 6]], dims=(2,)) == [[1, 2], [3, 4], [5, 6]]


def test_a_variable_dimension_takes_the_length_it_finds() -> None:
    assert decoded([1, 2, 3], dims=(-1,)) == [[1, 2, 3]]


@pytest.mark.parametrize(
    "data", [[1, 2, 3], 5, "text", {}, {"inputs": 1}, [[1, 2], [3]], [[[300]]]]
)
def test_what_is_no_example_is_refused(data: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^(inputs|body)"):
        decoded(data)
