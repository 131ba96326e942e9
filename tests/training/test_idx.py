"""The IDX reader, and MNIST as it reads it."""

import gzip
import struct
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.data.dataset import Dataset
from training.data.idx import gunzip, parse_idx
from training.errors import DataError

arrays = st.integers(1, 4).flatmap(
    lambda ndim: hnp.arrays(np.uint8, hnp.array_shapes(min_dims=ndim, max_dims=ndim, min_side=0))
)


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@given(arrays)
def test_what_was_written_is_read(array: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(parse_idx(idx(array), array.ndim, "file"), array)


@given(st.binary(), st.integers(1, 4))
@example(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), 3)
def test_arbitrary_bytes_are_a_data_error_or_an_array(data: bytes, ndim: int) -> None:
    with suppress(DataError):
        assert parse_idx(data, ndim, "file").ndim == ndim


@given(arrays, st.integers(min_value=1))
def test_a_file_cut_short_is_a_data_error(array: npt.NDArray[np.uint8], cut: int) -> None:
    data = idx(array)
    with pytest.raises(DataError):
        parse_idx(data[: -(1 + cut % len(data))], array.ndim, "file")


@given(arrays, st.binary(min_size=1))
def test_a_file_with_something_behind_it_is_a_data_error(
    array: npt.NDArray[np.uint8], more: bytes
) -> None:
    with pytest.raises(DataError, match="its header says"):
        parse_idx(idx(array) + more, array.ndim, "file")


def test_labels_in_the_place_of_images_are_a_data_error() -> None:
    with pytest.raises(DataError, match="starts with 00 00 08 01, not with 00 00 08 03"):
        parse_idx(idx(np.zeros(3, np.uint8)), 3, "file")


@given(st.binary())
@example(gzip.compress(b"whole")[:-4])
@example(gzip.compress(b"whole")[:12])
@example(gzip.compress(b"whole")[:10] + b"\xff" * 9)
def test_arbitrary_bytes_are_a_data_error_or_gzip(data: bytes) -> None:
    with suppress(DataError):
        gunzip(data, "file")


def test_mnist_has_its_known_sizes_and_labels(mnist: Dataset) -> None:
    assert mnist.train_x.shape == (60_000, 1, 28, 28)
    assert mnist.test_x.shape == (10_000, 1, 28, 28)
    assert mnist.train_x.dtype == mnist.test_x.dtype == np.uint8
    assert mnist.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(mnist.test_y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
