"""Merging and splitting lose nothing, mix up nothing and copy no more than needed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.dtypes import Datatype
from serving.engine.batching.merge import concat, merge_key, split
from serving.errors import Internal
from serving.types import Array, Tensor


def arrays(datatype: Datatype, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    if datatype is Datatype.BYTES:
        return hnp.arrays(object, shape, elements=st.binary(max_size=4), fill=st.nothing())
    return hnp.arrays(datatype.numpy, shape)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[Tensor]], list[int]]:
    """Requests of one merge key, their inputs in any order; and how many rows each has."""
    rows = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    datatypes = draw(st.lists(st.sampled_from(Datatype), min_size=1, max_size=3))
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    dims = [draw(shapes) for _ in datatypes]
    requests = []
    for count in rows:
        tensors = [
            Tensor(f"input{index}", datatype, draw(arrays(datatype, (count, *dims[index]))))
            for index, datatype in enumerate(datatypes)
        ]
        requests.append(draw(st.permutations(tensors)))
    return requests, rows


@given(batches())
def test_what_is_merged_and_split_comes_back_unchanged(
    batch: tuple[list[list[Tensor]], list[int]],
) -> None:
    requests, rows = batch
    merged = concat(requests)
    assert all(len(array) == sum(rows) for array in merged.values())
    for request, shares in zip(requests, split(merged, rows), strict=True):
        assert shares.keys() == {tensor.name for tensor in request}
        for tensor in request:
            assert shares[tensor.name].dtype == tensor.array.dtype
            np.testing.assert_array_equal(shares[tensor.name], tensor.array)


@given(batches())
def test_requests_that_fit_together_have_equal_keys(
    batch: tuple[list[list[Tensor]], list[int]],
) -> None:
    requests, _ = batch
    assert len({merge_key(request, ("out",)) for request in requests}) == 1


def tensor(*shape: int, name: str = "x", datatype: Datatype = Datatype.FP32) -> Tensor:
    return Tensor(name, datatype, np.zeros(shape, datatype.numpy))


@pytest.mark.parametrize(
    "other",
    [
        tensor(2, 4),
        tensor(2, 3, 1),
        tensor(2, 3, name="y"),
        tensor(2, 3, datatype=Datatype.FP64),
    ],
)
def test_another_shape_name_or_datatype_is_another_key(other: Tensor) -> None:
    assert merge_key([tensor(2, 3)]) == merge_key([tensor(5, 3)])
    assert merge_key([tensor(2, 3)]) != merge_key([other])
    assert merge_key([tensor(2, 3)]) != merge_key([tensor(2, 3), tensor(2, 3, name="z")])


def test_datatypes_that_share_a_numpy_type_are_different_keys() -> None:
    keys = {merge_key([tensor(1, datatype=d)]) for d in (Datatype.BF16, Datatype.UINT16)}
    assert len(keys) == 2


def test_other_requested_outputs_are_another_key() -> None:
    assert merge_key([tensor(1)], ("a",)) != merge_key([tensor(1)], ("b",))


def test_a_request_by_itself_is_not_copied() -> None:
    alone = tensor(2, 3)
    assert concat([[alone]])["x"] is alone.array
    output = np.zeros((2, 5))
    assert split({"y": output}, [2])[0]["y"] is output


def test_the_shares_of_a_batch_are_views() -> None:
    output = np.zeros((3, 5))
    assert all(np.shares_memory(share["y"], output) for share in split({"y": output}, [1, 2]))


def test_merging_never_converts() -> None:
    with pytest.raises(TypeError):
        concat([[tensor(1)], [tensor(1, datatype=Datatype.FP64)]])


@pytest.mark.parametrize("output", [np.zeros((4, 2)), np.zeros(2), np.zeros(()), np.zeros((0, 3))])
@pytest.mark.parametrize("rows", [[1, 2], [3]])
def test_an_output_without_the_rows_of_the_batch_fails_and_is_named(
    output: np.ndarray[Any, Any], rows: list[int]
) -> None:
    got = str(output.shape[0]) if output.ndim else "a scalar"
    with pytest.raises(Internal, match=f"'wrong'.*expected 3 rows, got {got}"):
        split({"right": np.zeros((3, 1)), "wrong": output}, rows)


def test_a_request_without_rows_gets_outputs_without_rows() -> None:
    shares = split({"y": np.zeros((2, 5))}, [1, 0, 1])
    assert [share["y"].shape for share in shares] == [(1, 5), (0, 5), (1, 5)]
