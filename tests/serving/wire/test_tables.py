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
    ],
)
def test_a_table_that_is_none_is_refused_by_its_place(content: bytes, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        tables.from_csv(content, ROW, COLUMNS)
