"""Numbers with names, as objects and as CSV, and what is wrong with those that do not fit."""

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import TensorSpec
from serving.wire import json_examples, tables

COLUMNS = ("a", "b")
ROW = TensorSpec("x", Datatype.FP32, (2,))
SERIES = TensorSpec("x", Datatype.FP32, (3, 2))


@pytest.mark.parametrize(
    "body",
    [
        b'{"b": 2, "a": 1}',
        b'[{"a": 1, "b": 2}]',
        b'{"inputs": {"a": 1, "b": 2}}',
        b'{"inputs": [{"b": 2, "a": 1}]}',
        b"[1, 2]",
    ],
)
def test_names_say_which_number_is_which(body: bytes) -> None:
    np.testing.assert_array_equal(json_examples.decode(body, ROW, COLUMNS), [[1, 2]])


@pytest.mark.parametrize(
    "body",
    [
        b'{"b": [2, 4, 6], "a": [1, 3, 5]}',
        b'[{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]',
        b'[[{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]]',
    ],
)
def test_series_go_by_name_or_hour_by_hour(body: bytes) -> None:
    np.testing.assert_array_equal(
        json_examples.decode(body, SERIES, COLUMNS), [[[1, 2], [3, 4], [5, 6]]]
    )


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"a": 1}', "inputs: expected the columns a, b; no b there"),
        (b'{"a": 1, "b": 2, "c": 3}', "got also 'c'"),
        (b'{"a": [1], "b": [2, 3]}', "lists of one length"),
        (b'{"a": [1], "b": 2}', "lists of one length"),
    ],
)
def test_objects_that_do_not_fit_the_columns_are_refused(body: bytes, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        json_examples.decode(body, SERIES, COLUMNS)


def test_each_line_of_a_table_is_an_example_and_further_columns_are_passed_over() -> None:
    content = b"\xef\xbb\xbfdate,b,a\n2016-07-01,2,1\n\n2016-07-02,4,3\n"
    np.testing.assert_array_equal(tables.from_csv(content, ROW, COLUMNS), [[1, 2], [3, 4]])


def test_the_lines_of_a_series_are_one_example() -> None:
    content = b"a,b\r\n1,2\r\n3,4\r\n5,6\r\n"
    found = tables.from_csv(content, SERIES, COLUMNS)
    np.testing.assert_array_equal(found, [[[1, 2], [3, 4], [5, 6]]])
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "a header and at least one line, got 0"),
        (b"a,b\n", "a header and at least one line, got 1"),
        (b"a,c\n1,2\n", "no b there"),
        (b"a,b\n1,two\n", "line 2: expected a number for each column, got '1,two'"),
        (b"a,b\n1\n", "line 2: expected a number for each column"),
        (b"\xff\xfe", "expected CSV"),
        (b"a,b\n1,1_0\n", "line 2: expected a number for each column, got '1,1_0'"),
        (b"a,b\n1,1e999\n", "line 2: expected a number for each column"),
        (b"a,b\n1,1e39\n", "within the range of FP32, got 1e.39 at element 1"),
    ],
)
def test_a_table_that_is_none_is_refused_by_its_place(content: bytes, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        tables.from_csv(content, ROW, COLUMNS)


@pytest.mark.parametrize(
    ("datatype", "row", "expected"),
    [
        (Datatype.INT64, b"9007199254740993,-2.0", [9007199254740993, -2]),
        (Datatype.UINT8, b"255,0", [255, 0]),
        (Datatype.BOOL, b"1,0", [True, False]),
        (Datatype.FP64, b"1e-3,-Infinity", [0.001, -np.inf]),
        (Datatype.FP32, b"NaN,3", [np.nan, 3]),
        (Datatype.BYTES, "größer,1".encode(), ["größer".encode(), b"1"]),
    ],
)
def test_cells_are_of_the_type_of_the_input(
    datatype: Datatype, row: bytes, expected: list[object]
) -> None:
    found = tables.from_csv(b"a,b\n" + row, TensorSpec("x", datatype, (2,)), COLUMNS)
    assert found.dtype == datatype.numpy
    np.testing.assert_array_equal(found, [expected])


@pytest.mark.parametrize(
    ("datatype", "row"),
    [
        (Datatype.INT32, b"1,1.5"),
        (Datatype.INT32, b"1,nan"),
        (Datatype.INT32, b"1,1e300"),
        (Datatype.UINT8, b"1,-1"),
        (Datatype.UINT8, b"1,256"),
        (Datatype.BOOL, b"1,2"),
        (Datatype.BF16, b"1,2"),
    ],
)
def test_a_cell_that_the_type_does_not_hold_is_refused(datatype: Datatype, row: bytes) -> None:
    with pytest.raises(InvalidArgument, match="body: expected"):
        tables.from_csv(b"a,b\n" + row, TensorSpec("x", datatype, (2,)), COLUMNS)


def test_a_table_for_a_model_whose_columns_have_no_names_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="columns of input 'x' have no names"):
        tables.from_csv(b"a,b\n1,2\n", ROW, ())
