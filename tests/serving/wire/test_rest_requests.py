"""What a REST inference request may say, and the message for each thing it may not."""

import json
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidArgument, ServingError, Unsupported
from serving.types import RequestedOutput
from serving.wire import rest

INT_INPUT = {"name": "x", "shape": [2, 3], "datatype": "INT32", "data": [1, 2, 3, 4, 5, 6]}


def body(**changes: Any) -> bytes:
    """A valid request with the given top-level changes."""
    return json.dumps({"inputs": [INT_INPUT]} | changes).encode()


def one_input(**changes: Any) -> bytes:
    """A valid request with changes to its input; a change to None removes the key."""
    item = {key: value for key, value in (INT_INPUT | changes).items() if value is not None}
    return body(inputs=[item])


def binary_input(size: Any, **changes: Any) -> bytes:
    return one_input(data=None, parameters={"binary_data_size": size}, **changes)


def data_of(content: bytes) -> Any:
    request, _ = rest.decode_infer("m", "", content)
    return request.inputs[0].array.tolist()


def refusal(content: bytes, header_length: int | None = None) -> str:
    return refusal_of("m", content, header_length)


def refusal_of(model: str, content: bytes, header_length: int | None) -> str:
    with pytest.raises(ServingError) as caught:
        rest.decode_infer(model, "", content, header_length)
    assert isinstance(caught.value, InvalidArgument)
    return caught.value.message


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_data_may_be_flat_or_nested_as_the_shape_is(data: Any) -> None:
    assert data_of(one_input(data=data)) == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("shape", "data", "expected"),
    [
        ([], [5], 5),
        ([0], [], []),
        ([2, 0], [], [[], []]),
        ([2, 0], [[], []], [[], []]),
        ([2, 0, 3], [[], []], [[], []]),
        ([0, 3], [], []),
        ([1, 1], [5], [[5]]),
        ([1, 1], [[5]], [[5]]),
    ],
)
def test_scalars_and_empty_tensors_are_tensors(shape: list[int], data: Any, expected: Any) -> None:
    assert data_of(one_input(shape=shape, data=data)) == expected


def test_unknown_keys_are_ignored() -> None:
    assert data_of(body(future={"deep": [1, {"x": None}]})) == [[1, 2, 3], [4, 5, 6]]


def test_integers_are_numbers_for_floating_point_inputs() -> None:
    data = [1, 2.5, -3, 0, 2**60, 1e-3]
    assert data_of(one_input(datatype="FP64", data=data)) == [[1, 2.5, -3], [0, 2.0**60, 1e-3]]


def test_numbers_that_are_not_finite_are_written_as_python_writes_them() -> None:
    content = one_input(datatype="FP32", data=[float("nan"), float("inf"), float("-inf"), 0, 1, 2])
    assert b"[NaN, Infinity, -Infinity, 0, 1, 2]" in content
    request, _ = rest.decode_infer("m", "", content)
    expected = np.array([[np.nan, np.inf, -np.inf], [0, 1, 2]], np.float32)
    np.testing.assert_array_equal(request.inputs[0].array, expected)


def test_a_request_without_outputs_asks_for_all_of_them_as_json() -> None:
    request, encoding = rest.decode_infer("m", "", body())
    assert request.outputs == ()
    assert not encoding.is_binary("any")


def test_an_output_overrides_how_the_request_wants_its_answer() -> None:
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    request, encoding = rest.decode_infer(
        "m", "", body(outputs=outputs, parameters={"binary_data_output": True})
    )
    assert request.outputs == (RequestedOutput("a"), RequestedOutput("b"))
    assert encoding.is_binary("a")
    assert not encoding.is_binary("b")
    assert "binary_data_output" not in request.parameters


@pytest.mark.parametrize("name", ["abc", 128 * "x", 64 * "é"])
def test_a_sequence_may_be_known_by_a_string(name: str) -> None:
    request, _ = rest.decode_infer("m", "", body(parameters={"sequence_id": name}))
    assert request.parameters == {"sequence_id": name}


@pytest.mark.parametrize("name", [129 * "x", 65 * "é"])
def test_the_string_of_a_sequence_has_an_end(name: str) -> None:
    with pytest.raises(Unsupported, match="cannot be longer than 128 characters"):
        rest.decode_infer("m", "", body(parameters={"sequence_id": name}))


def test_bytes_inputs_are_strings_held_as_utf8() -> None:
    content = one_input(datatype="BYTES", shape=[2], data=["zwölf", ""])
    assert data_of(content) == ["zwölf".encode(), b""]


def test_any_nonzero_byte_is_true() -> None:
    header = binary_input(3, datatype="BOOL", shape=[3])
    request, _ = rest.decode_infer("m", "", header + b"\x00\x01\xff", len(header))
    assert request.inputs[0].array.tobytes() == b"\x00\x01\x01"


REFUSED = [
    (b"[1]", "request: expected a JSON object, got [1]"),
    (b"{}", "inputs: expected a list, got null"),
    (body(inputs={}), "inputs: expected a list, got {}"),
    (body(inputs=[3]), "inputs[0]: expected a JSON object, got 3"),
    (body(id=7), "id: expected a string, got 7"),
    (body(outputs="a"), "outputs: expected a list, got 'a'"),
    (one_input(name=None), "inputs[0].name: expected a string, got null"),
    (one_input(name=1), "inputs[0].name: expected a string, got 1"),
    (
        body(inputs=[INT_INPUT, INT_INPUT]),
        "inputs[1].name: expected each name once, got 'x' again",
    ),
    (
        one_input(shape=[-1, 2]),
        "inputs[0].shape: expected a list of non-negative integers, got [-1, 2]",
    ),
    (
        one_input(shape=[True, 6]),
        "inputs[0].shape: expected a list of non-negative integers, got [True, 6]",
    ),
    (
        one_input(shape=[2.0, 3]),
        "inputs[0].shape: expected a list of non-negative integers, got [2.0, 3]",
    ),
    (one_input(shape=6), "inputs[0].shape: expected a list of non-negative integers, got 6"),
    (
        one_input(shape=[2**40, 2**40]),
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 1099511627776]",
    ),
    (
        one_input(shape=[2**40, 0, 2**40], data=[]),
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 0, 1099511627776]",
    ),
    (one_input(shape=[1] * 33), "inputs[0].shape: expected at most 32 dimensions, got 33"),
    (
        one_input(datatype="INT4"),
        "inputs[0].datatype: unknown datatype 'INT4'; expected one of BOOL, UINT8, UINT16, UINT32, "
        "UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES",
    ),
    (
        one_input(data=None),
        "inputs[0]: expected either data or parameters.binary_data_size, got neither",
    ),
    (
        one_input(parameters={"binary_data_size": 24}),
        "inputs[0]: expected either data or parameters.binary_data_size, got both",
    ),
    (
        binary_input(-1),
        "inputs[0].parameters.binary_data_size: expected a non-negative integer, got -1",
    ),
    (
        binary_input("24"),
        "inputs[0].parameters.binary_data_size: expected a non-negative integer, got '24'",
    ),
    (one_input(parameters=[]), "inputs[0].parameters: expected a JSON object, got []"),
    (body(inputs=[INT_INPUT | {"data": None}]), "inputs[0].data: expected a list, got null"),
    (one_input(data=5), "inputs[0].data: expected a list, got 5"),
    (
        one_input(data=[1, 2, 3]),
        "inputs[0].data: expected 6 elements for shape [2, 3], got 3",
    ),
    (
        one_input(data=[[1, 2, 3], [4, 5]]),
        "inputs[0].data: expected one flat list or lists nested as shape [2, 3], "
        "got a list of 2 in place of 3",
    ),
    (
        one_input(data=[[1, 2, 3], 4]),
        "inputs[0].data: expected one flat list or lists nested as shape [2, 3], got 4",
    ),
    (
        one_input(shape=[], data=[[5]]),
        "inputs[0].data: expected integers from -2147483648 to 2147483647 for INT32, "
        "got [[5]] at element 0",
    ),
    (
        one_input(data=[1, 2, "3", 4, 5, 6]),
        "inputs[0].data: expected integers from -2147483648 to 2147483647 for INT32, "
        "got '3' at element 2",
    ),
    (
        one_input(data=[1, 2, 3, 4, 5.5, 6]),
        "inputs[0].data: expected integers from -2147483648 to 2147483647 for INT32, "
        "got 5.5 at element 4",
    ),
    (
        one_input(data=[1, 2, 3, 4, 5, True]),
        "inputs[0].data: expected integers from -2147483648 to 2147483647 for INT32, "
        "got true at element 5",
    ),
    (
        one_input(datatype="UINT8", data=[1, 2, 3, 4, 5, 300]),
        "inputs[0].data: expected integers from 0 to 255 for UINT8, got 300 at element 5",
    ),
    (
        one_input(datatype="UINT64", data=[1, 2, 3, 4, 5, -1]),
        "inputs[0].data: expected integers from 0 to 18446744073709551615 for UINT64, "
        "got -1 at element 5",
    ),
    (
        one_input(datatype="INT64", data=[1, 2, 3, 4, 5, 2**63]),
        "inputs[0].data: expected integers from -9223372036854775808 to 9223372036854775807 "
        "for INT64, got 9223372036854775808 at element 5",
    ),
    (
        one_input(datatype="UINT64", data=[1, 2, 3, 4, 5, 2**64]),
        "inputs[0].data: expected integers from 0 to 18446744073709551615 for UINT64, "
        "got 1.8446744073709552e+19 at element 5",
    ),
    (
        one_input(datatype="FP32", data=[1, 2, 3, 4, 5, None]),
        "inputs[0].data: expected numbers within the range of FP32, got null at element 5",
    ),
    (
        one_input(datatype="FP32", data=[1, 2, 3, 4, 5, False]),
        "inputs[0].data: expected numbers within the range of FP32, got false at element 5",
    ),
    (
        one_input(datatype="FP32", data=[1, 1e300, 3, 4, 5, float("inf")]),
        "inputs[0].data: expected numbers within the range of FP32, got 1e+300 at element 1",
    ),
    (
        one_input(datatype="BOOL", data=[True, False, True, False, True, 1]),
        "inputs[0].data: expected booleans for BOOL, got 1 at element 5",
    ),
    (
        one_input(datatype="BYTES", data=["a", "b", "c", "d", "e", 1]),
        "inputs[0].data: expected strings for BYTES, got 1 at element 5",
    ),
    (
        one_input(datatype="BYTES", data=["a"]),
        "inputs[0].data: expected 6 elements for shape [2, 3], got 1",
    ),
    (
        one_input(datatype="FP16"),
        "inputs[0].data: expected binary data, since JSON cannot carry FP16",
    ),
    (
        one_input(datatype="BF16"),
        "inputs[0].data: expected binary data, since JSON cannot carry BF16",
    ),
    (body(outputs=[{}]), "outputs[0].name: expected a string, got null"),
    (
        body(outputs=[{"name": "a"}, {"name": "a"}]),
        "outputs[1].name: expected each name once, got 'a' again",
    ),
    (
        body(outputs=[{"name": "a", "parameters": {"binary_data": 1}}]),
        "outputs[0].parameters.binary_data: expected a boolean, got 1",
    ),
    (
        body(outputs=[{"name": "a", "parameters": {"classification": -1}}]),
        "outputs[0].parameters.classification: expected a non-negative integer, got -1",
    ),
    (body(parameters=3), "parameters: expected a JSON object, got 3"),
    (
        body(parameters={"binary_data_output": "yes"}),
        "parameters.binary_data_output: expected a boolean, got 'yes'",
    ),
    (
        body(parameters={"timeout": -1}),
        "parameters.timeout: expected an unsigned 64-bit integer of microseconds, got -1",
    ),
    (
        body(parameters={"priority": True}),
        "parameters.priority: expected an unsigned 64-bit integer, got true",
    ),
    (
        body(parameters={"sequence_id": 1.5}),
        "parameters.sequence_id: expected an unsigned 64-bit integer or a string, got 1.5",
    ),
    (
        body(parameters={"sequence_start": 1}),
        "parameters.sequence_start: expected a boolean, got 1",
    ),
    (
        body(parameters={"mine": [1]}),
        "parameters.mine: expected a string, a boolean, a 64-bit integer or a double, got [1]",
    ),
    (
        body(parameters={"triton_final_response": True}),
        "parameters.triton_final_response: the name is reserved; 'headers' and parameter keys "
        "starting with 'triton_' are reserved for Triton usage and should not be specified.",
    ),
    (
        body(parameters={"headers": "x"}),
        "parameters.headers: the name is reserved; 'headers' and parameter keys "
        "starting with 'triton_' are reserved for Triton usage and should not be specified.",
    ),
]


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[m[:60] for _, m in REFUSED])
def test_a_fault_is_named_by_its_field(content: bytes, message: str) -> None:
    assert refusal(content) == message


@pytest.mark.parametrize(
    ("declared", "sent", "message"),
    [
        (
            40,
            40,
            "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected 24, got 40",
        ),
        (
            24,
            20,
            "unexpected size for input 'x', expecting 4 additional bytes for model 'm'",
        ),
        (
            24,
            25,
            "unexpected additional input data for model 'm': the binary_data_size parameters "
            "sum to 24 bytes, got 25",
        ),
    ],
)
def test_binary_sizes_must_fit_the_shape_and_the_body(
    declared: int, sent: int, message: str
) -> None:
    header = binary_input(declared)
    assert refusal(header + bytes(sent), len(header)) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\1\0", "element 0 needs 2 more bytes"),
        (b"\5\0\0\0abc", "element 0 needs 2 more bytes"),
        (b"\xff\xff\xff\xff", "element 0 needs 4294967295 more bytes"),
    ],
)
def test_bytes_elements_must_be_complete(data: bytes, message: str) -> None:
    header = binary_input(len(data), datatype="BYTES", shape=[1])
    expected = f"incomplete BYTES data for input 'x' for model 'm': {message}"
    assert refusal(header + data, len(header)) == expected


@pytest.mark.parametrize("count", [0, 1, 3])
def test_bytes_elements_must_be_as_many_as_the_shape_says(count: int) -> None:
    data = b"\1\0\0\0a" * count
    header = binary_input(len(data), datatype="BYTES", shape=[2])
    assert refusal(header + data, len(header)) == (
        f"input element count mismatch for BYTES input 'x' for model 'm'. Expected 2, got {count}"
    )


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_shared_memory_is_refused_as_unsupported(field: str) -> None:
    item = INT_INPUT | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}}
    with pytest.raises(Unsupported, match=rf"^{field}\[0\]\.parameters\.shared_memory_region: "):
        rest.decode_infer("m", "", body(**{field: [item]}))


def test_a_head_that_comes_again_says_the_same_of_other_data() -> None:
    """Also where the first of them did not fit, or was for another model."""
    head = json.dumps(
        {
            "id": "7",
            "parameters": {"timeout": 5, "binary_data_output": True},
            "inputs": [
                {
                    "name": "x",
                    "shape": [2],
                    "datatype": "INT32",
                    "parameters": {"binary_data_size": 8},
                }
            ],
            "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
        }
    ).encode()
    for model, data in (("a", [1]), ("a", [1, 2]), ("b", [3, 4]), ("b", [5, 6, 7])):
        content = head + np.array(data, np.int32).tobytes()
        if len(data) != 2:
            assert f"for model '{model}'" in refusal_of(model, content, len(head))
            continue
        request, encoding = rest.decode_infer(model, "", content, len(head))
        assert (request.model, request.id, request.parameters) == (model, "7", {"timeout": 5})
        assert request.inputs[0].array.tolist() == data
        assert [output.name for output in request.outputs] == ["y"]
        assert (encoding.is_binary("y"), encoding.is_binary("z")) == (False, True)


def test_many_different_heads_are_read_as_well() -> None:
    for identifier in map(str, range(2000)):
        content = binary_input(4, shape=[1]).replace(b"{", b'{"id": "%s",' % identifier.encode(), 1)
        request, _ = rest.decode_infer("m", "", content + bytes(4), len(content))
        assert request.id == identifier
