"""How long the header of a body is, and bodies without one: the data of the only input."""

import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import TensorSpec
from serving.wire import rest


@pytest.mark.parametrize(
    ("dims", "max_batch_size", "size", "shape"),
    [
        ((-1, 2, 3), 8, 24, (1, 2, 3)),
        ((2, 3), 0, 24, (2, 3)),
        ((-1, -1, 3), 8, 36, (1, 3, 3)),
        ((-1, 3), 0, 12, (1, 3)),
        ((-1, 3), 0, 0, (0, 3)),
        ((), 0, 4, ()),
    ],
)
def test_a_raw_request_is_the_only_input_of_one_row(
    dims: tuple[int, ...], max_batch_size: int, size: int, shape: tuple[int, ...]
) -> None:
    specs = [TensorSpec("x", Datatype.INT32, dims)]
    request, encoding = rest.decode_raw_infer("m", "3", bytes(size), specs, max_batch_size)
    assert request.version == "3"
    assert request.inputs[0].name == "x"
    assert request.inputs[0].array.shape == shape
    assert encoding.is_binary("any")


@pytest.mark.parametrize(("dims", "max_batch_size"), [((1,), 0), ((-1, 1), 4)])
def test_a_raw_request_for_bytes_is_one_element_without_a_length(
    dims: tuple[int, ...], max_batch_size: int
) -> None:
    specs = [TensorSpec("x", Datatype.BYTES, dims)]
    request, _ = rest.decode_raw_infer("m", "", b"all of it", specs, max_batch_size)
    assert request.inputs[0].array.ravel().tolist() == [b"all of it"]
    assert request.inputs[0].array.ndim == len(dims)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "raw binary request: expected a model with one input, but 'm' has 0"),
        (
            [TensorSpec("x", Datatype.INT32, (-1, -1))],
            "The shape of the raw input 'x' can not be deduced because there are more than one "
            "variable-sized dimension",
        ),
        (
            [TensorSpec("x", Datatype.INT32, (4,))],
            "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected 16, got 10",
        ),
        (
            [TensorSpec("x", Datatype.INT32, (-1, 3))],
            "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected a multiple of 12, got 10",
        ),
        (
            [TensorSpec("x", Datatype.INT32, (-1, 0))],
            "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected a multiple of 0, got 10",
        ),
        (
            [TensorSpec("x", Datatype.BYTES, (2,))],
            "shape of the raw BYTES input 'x': expected [1], got [2]",
        ),
    ],
)
def test_a_raw_request_that_determines_no_shape_is_refused(
    specs: list[TensorSpec], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rest.decode_raw_infer("m", "", bytes(10), specs, 0)
    assert caught.value.message == message


@pytest.mark.parametrize("value", ["0", "7", b"10", "010", " 5", b"5 \t"])
def test_the_header_length_is_a_decimal_within_the_body(value: str | bytes) -> None:
    assert rest.parse_header_length(value, 10) == int(value)


@pytest.mark.parametrize(
    "value", ["", "-1", "11", "1.0", "0x5", "5 5", "\n5", "٣", "²", "9" * 5000, b"\xb2"]
)
def test_any_other_header_length_is_refused(value: str | bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"^Inference-Header-Content-Length: expected an "):
        rest.parse_header_length(value, 10)
