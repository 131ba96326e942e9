"""Answers are held against a session's, element by element, before another takes its place."""

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine import parity
from serving.engine.parity import Agreement, Reference
from serving.errors import Internal, LoadFailed
from serving.types import Array, Signature, TensorSpec
from tests.serving.engine.models import Function, FunctionSession

NAN, INF = float("nan"), float("inf")


def session(function: Function) -> FunctionSession:
    x = TensorSpec("x", Datatype.FP32, (-1,))
    return FunctionSession(Signature((x,), (x,)), function)


def answering(values: object, datatype: Datatype = Datatype.FP32) -> FunctionSession:
    array = np.array(values, datatype.numpy)
    return session(lambda x: array)


def compared(
    wanted: object, found: object, datatype: Datatype = Datatype.FP32, tolerance: float = 0.01
) -> float:
    """The difference; LoadFailed if it is too large."""
    x = {"x": np.zeros(1, np.float32)}
    reference = Reference(answering(wanted, datatype), {"y": datatype}, [(1, x)], tolerance)
    return reference.check(answering(found, datatype)).difference


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([1, 100], [1.015, 101.005]),
        ([NAN, INF, -INF], [NAN, INF, -INF]),
        ([0.001], [0.0]),
        ([], []),
    ],
)
def test_answers_within_the_tolerance_agree(wanted: list[float], found: list[float]) -> None:
    compared(wanted, found)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([1.0], [1.03]),
        ([0.0], [0.02]),
        ([1.0], [NAN]),
        ([NAN], [1.0]),
        ([INF], [1.0]),
        ([INF], [-INF]),
        ([1.0], [INF]),
    ],
)
def test_answers_beyond_it_do_not(wanted: list[float], found: list[float]) -> None:
    with pytest.raises(LoadFailed, match=r"output 'y'\[0\] at batch size 1 is .* within 0\.01 "):
        compared(wanted, found)


def test_the_worst_element_is_told() -> None:
    with pytest.raises(LoadFailed, match=r"\[1, 0\] at batch size 1 is 9, expected 1 within"):
        compared([[1, 2], [1, 2]], [[1, 2.5], [9, 2]])


def test_the_largest_difference_is_told() -> None:
    assert compared([1, 100], [1.005, 100.5]) == pytest.approx(0.5)


def test_words_of_bf16_are_compared_as_the_numbers_that_they_are() -> None:
    one, next_after_one, two = 0x3F80, 0x3F81, 0x4000
    assert compared([one], [next_after_one], Datatype.BF16) == 2**-7
    with pytest.raises(LoadFailed, match="is 2, expected 1"):
        compared([one], [two], Datatype.BF16)


def test_numbers_of_classes_and_texts_are_equal_or_not() -> None:
    assert compared([3, 4], [3, 4], Datatype.INT64) == 0
    assert compared([b"cat"], [b"cat"], Datatype.BYTES) == 0
    with pytest.raises(LoadFailed, match=r"\[1\] at batch size 1 is 5, expected 4: where made-up"):
        compared([3, 4], [3, 5], Datatype.INT64)
    with pytest.raises(LoadFailed, match="is b'dog', expected b'cat'"):
        compared([b"cat"], [b"dog"], Datatype.BYTES)


def test_another_shape_is_another_answer() -> None:
    with pytest.raises(LoadFailed, match=r"has the shape \[1, 2\], expected \[2\]"):
        compared([1, 2], [[1, 2]])


def test_inputs_are_tried_until_one_is_refused() -> None:
    def picky(x: Array) -> Array:
        if len(x) > 2:
            raise Internal("too many")
        return x

    inputs = [(rows, {"x": np.zeros(rows, np.float32)}) for rows in (1, 2, 4)]
    reference = Reference(session(picky), {"y": Datatype.FP32}, inputs, 0.1)
    reference.check_inputs()
    assert [rows for rows, _, _ in reference.check(session(picky)).times] == [1, 2]


def test_no_more_is_held_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_BYTES", 8 * 4 + 8 * 8)  # inputs and answers of 4 + 8 floats
    inputs = [(rows, {"x": np.zeros(rows, np.float32)}) for rows in (4, 8, 16)]
    reference = Reference(session(lambda x: x), {"y": Datatype.FP32}, inputs, 0.1)
    assert [rows for rows, _, _ in reference.check(session(lambda x: x)).times] == [4, 8]


def test_the_log_has_the_times_of_the_fewest_and_the_most_rows() -> None:
    agreement = Agreement(
        0.00021, ((1, 3_100_000, 1_200_000), (2, 1, 1), (8, 9_000_000, 2_000_000))
    )
    assert str(agreement) == (
        "parity max difference 0.00021, p50 of 1 row 3.1 -> 1.2 ms, 8 rows 9 -> 2 ms"
    )
