"""What fits a model's signature, beyond the faults that the protocols' own table holds."""

from typing import Any

import numpy as np
import pytest

from serving.config import Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.validation import Admitted, Validator
from serving.errors import InvalidArgument
from serving.types import InferenceRequest, RequestedOutput, Signature, Tensor, TensorSpec

TEXT = """
backend: "identity" max_batch_size: {rows}
input {{ name: "a" data_type: {kind} dims: [-1] }}
input {{ name: "b" data_type: TYPE_INT32 dims: [2] }}
{optional}
output {{ name: "y" data_type: TYPE_FP32 dims: [-1] }}
output {{ name: "z" data_type: TYPE_INT32 dims: [2] }}
parameters {{ key: "reject_non_finite_inputs" value {{ string_value: "{finite}" }} }}
"""


OPTIONAL = 'input { name: "t" data_type: TYPE_STRING dims: [1] optional: true }'


def validator(rows: int = 8, finite: bool = False, kind: Datatype = Datatype.FP32) -> Validator:
    """One for two inputs, of which the first has a variable length.

    Without batches there is an optional text, too, as only such models can have one.
    """
    batch = (-1,) if rows else ()
    inputs = [
        TensorSpec("a", kind, (*batch, -1)),
        TensorSpec("b", Datatype.INT32, (*batch, 2)),
    ]
    if not rows:
        inputs.append(TensorSpec("t", Datatype.BYTES, (1,), optional=True))
    outputs = (
        TensorSpec("y", Datatype.FP32, (*batch, -1)),
        TensorSpec("z", Datatype.INT32, (*batch, 2)),
    )
    text = TEXT.format(
        rows=rows,
        finite=str(finite).lower(),
        kind=kind.config,
        optional="" if rows else OPTIONAL,
    )
    source = Source("config.pbtxt", text)
    proto = resolve(parse(text, source.name), "m", source)
    return Validator(complete(proto, Signature(tuple(inputs), outputs), source))


def a(*shape: int) -> Tensor:
    return Tensor("a", Datatype.FP32, np.zeros(shape, np.float32))


def b(*shape: int) -> Tensor:
    return Tensor("b", Datatype.INT32, np.zeros(shape, np.int32))


def text(*values: bytes) -> Tensor:
    return Tensor("t", Datatype.BYTES, np.array(values, object))


def admit(*tensors: Tensor, outputs: tuple[str, ...] = (), **options: Any) -> Admitted:
    wanted = tuple(RequestedOutput(name) for name in outputs)
    return validator(**options).admit(InferenceRequest("m", tensors, outputs=wanted))


def test_inputs_may_come_in_any_order() -> None:
    for tensors in ((a(3, 5), b(3, 2)), (b(3, 2), a(3, 5))):
        admitted = admit(*tensors)
        assert (admitted.rows, admitted.outputs) == (3, ("y", "z"))


def test_outputs_come_in_the_order_they_are_asked_for() -> None:
    assert admit(a(1, 1), b(1, 2), outputs=("z", "y")).outputs == ("z", "y")
    assert admit(a(1, 1), b(1, 2), outputs=("z",)).outputs == ("z",)


def test_only_what_can_be_merged_has_equal_keys() -> None:
    one = validator()

    def key(*tensors: Tensor, outputs: tuple[str, ...] = ()) -> object:
        wanted = tuple(RequestedOutput(name) for name in outputs)
        return one.admit(InferenceRequest("m", tensors, outputs=wanted)).key

    base = key(a(1, 4), b(1, 2))
    assert key(b(7, 2), a(7, 4)) == base
    assert key(a(1, 5), b(1, 2)) != base
    assert key(a(1, 4), b(1, 2), outputs=("z",)) != base


def test_a_model_that_does_not_batch_takes_one_row_without_saying_so() -> None:
    assert admit(a(9), b(2), rows=0).rows == 1


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((a(3, 5), b(2, 2)), "input 'b' batch size 2 does not match other inputs' batch size 3"),
        ((a(3, 5),), r"missing required input\(s\) \['b'\]"),
        ((b(1, 2),), r"missing required input\(s\) \['a'\]"),
        ((a(1, 1), b(1, 2), b(1, 2)), "input 'b' .*more than once"),
        ((a(1, 1), b(1, 3)), r"unexpected shape for input 'b' .*Expected \[-1,2\], got \[1,3\]"),
        ((a(1, 1, 1), b(1, 2)), r"unexpected shape for input 'a' .*Expected \[-1,-1\]"),
        ((a(), b(1, 2)), r"unexpected shape for input 'a' .*got \[\]"),
        ((a(9, 1), b(9, 2)), "batch-size must be <= 8 .*got 9 rows in input 'a'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tensors: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        admit(*tensors)


def test_an_optional_input_may_come_or_not_but_then_it_must_fit() -> None:
    assert admit(a(1), b(2), rows=0).rows == 1
    assert admit(a(1), b(2), text(b"x"), rows=0).rows == 1
    with pytest.raises(InvalidArgument, match=r"missing required input\(s\) \['a'\]"):
        admit(b(2), text(b"x"), rows=0)
    with pytest.raises(InvalidArgument, match=r"'t' .*UTF-8 text: element 0: invalid start byte"):
        admit(a(1), b(2), text(b"\xff"), rows=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_only_where_the_model_says_so(
    value: float,
) -> None:
    tensor = Tensor("a", Datatype.FP32, np.array([[0, value]], np.float32))
    assert admit(tensor, b(1, 2)).rows == 1
    with pytest.raises(InvalidArgument, match=r"input 'a' .*finite numbers, got .* at \[0,1\]"):
        admit(tensor, b(1, 2), finite=True)


@pytest.mark.parametrize(("word", "value"), [(0x7FC0, "nan"), (0x7F80, "inf"), (0xFF80, "-inf")])
def test_numbers_of_bf16_that_are_not_finite_are_refused_too(word: int, value: str) -> None:
    largest = 0x7F7F
    bf16 = [
        Tensor("a", Datatype.BF16, np.array([[largest, last]], np.uint16)) for last in (0, word)
    ]
    assert admit(bf16[0], b(1, 2), finite=True, kind=Datatype.BF16).rows == 1
    with pytest.raises(InvalidArgument, match=rf"finite numbers, got {value} at \[0,1\]"):
        admit(bf16[1], b(1, 2), finite=True, kind=Datatype.BF16)


def test_a_variable_dimension_may_be_zero() -> None:
    assert admit(a(2, 0), b(2, 2)).rows == 2
