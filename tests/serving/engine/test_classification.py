"""The best classes of an output in place of its values, as Triton writes them."""

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine.classification import classify
from serving.errors import InvalidArgument
from serving.types import Tensor


def scores(datatype: Datatype, values: object) -> Tensor:
    return Tensor("y", datatype, np.array(values, datatype.numpy))


def test_each_row_has_its_best_classes_best_first() -> None:
    tensor = scores(Datatype.FP32, [[0.1, 0.7, 0.2], [5, -1, 0]])
    found = classify(tensor, 2, ("cat", "dog", "eel"), batched=True)
    assert (found.name, found.datatype) == ("y", Datatype.BYTES)
    assert found.array.tolist() == [
        [b"0.700000:1:dog", b"0.200000:2:eel"],
        [b"5.000000:0:cat", b"0.000000:2:eel"],
    ]


def test_a_model_that_does_not_batch_has_one_row() -> None:
    found = classify(scores(Datatype.FP64, [1, 3, 2]), 2, (), batched=False)
    assert found.array.tolist() == [b"3.000000:1", b"2.000000:2"]


def test_an_empty_line_among_the_labels_names_nothing() -> None:
    found = classify(scores(Datatype.FP32, [1, 3, 2]), 3, ("a", "", "c"), batched=False)
    assert found.array.tolist() == [b"3.000000:1", b"2.000000:2:c", b"1.000000:0:a"]


def test_more_dimensions_are_one_list_of_classes() -> None:
    found = classify(scores(Datatype.INT32, [[[1, 2], [3, 4]]]), 2, ("a",), batched=True)
    assert found.array.tolist() == [[b"4:3", b"3:2"]]


def test_no_more_classes_come_back_than_there_are() -> None:
    found = classify(scores(Datatype.UINT8, [[1, 2]]), 99, ("a", "b"), batched=True)
    assert found.array.tolist() == [[b"2:1:b", b"1:0:a"]]


def test_of_equal_scores_the_first_class_comes_first() -> None:
    found = classify(scores(Datatype.FP32, [[1, 1, 1, 1]]), 3, (), batched=True)
    assert found.array.tolist() == [[b"1.000000:0", b"1.000000:1", b"1.000000:2"]]


def test_the_smallest_integer_is_the_worst_class() -> None:
    # Negated within its own type it would stay what it is, and be the best.
    found = classify(scores(Datatype.INT8, [[-128, 5, 0]]), 3, (), batched=True)
    assert [text.split(b":")[1] for text in found.array[0]] == [b"1", b"2", b"0"]


def test_integers_that_no_float_tells_apart_are_told_apart() -> None:
    found = classify(scores(Datatype.UINT64, [[2**64 - 2, 2**64 - 1, 0]]), 2, (), batched=True)
    assert found.array.tolist() == [[b"18446744073709551615:1", b"18446744073709551614:0"]]


@pytest.mark.parametrize("datatype", [Datatype.BYTES, Datatype.BF16, Datatype.BOOL])
def test_what_has_no_order_has_no_classes(datatype: Datatype) -> None:
    tensor = Tensor("y", datatype, np.zeros((1, 2), datatype.numpy))
    with pytest.raises(InvalidArgument, match=f"unsupported type '{datatype.wire}': .* 'y'"):
        classify(tensor, 1, (), batched=True)
