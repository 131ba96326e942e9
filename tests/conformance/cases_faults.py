"""Requests that cannot be answered: every class of error that a client can cause."""

import gzip
import json
from collections.abc import Mapping
from typing import Any, Final

from tritonclient.grpc import service_pb2

from tests.conformance.calls import Call, Http, Rpc
from tests.conformance.cases_inference import INFER, ONES, ROW, SIMPLE, SIXTEEN, as_document
from tests.conformance.tensors import (
    Infer,
    Input,
    Output,
    as_binary,
    as_raw_contents,
    as_typed_contents,
    everywhere,
)

OTHER: Final = ROW[1]


def _first(**changes: Any) -> Infer:
    """The request of `simple` with something else about its first input."""
    given = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": SIXTEEN} | changes
    return Infer("simple", [Input(**given), OTHER])


def _both(shape: list[int]) -> Infer:
    rows = shape[0] if len(shape) == 2 else 1
    data = (SIXTEEN * rows, ONES * rows)
    return Infer(
        "simple",
        [
            Input(f"INPUT{index}", "INT32", shape, values[: _count(shape)])
            for index, values in enumerate(data)
        ],
    )


def _count(shape: list[int]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def _echo(datatype: str, data: list[Any], *outputs: Output) -> Infer:
    return Infer(
        f"identity_{datatype.lower()}", [Input("IN", datatype, [1, len(data)], data)], outputs
    )


_CLASSES: Final = Output("OUT", {"classification": 1})

# Faults that every encoding can express.
FAULTS: Final[dict[str, Infer]] = {
    "unknown model": Infer("nobody", ROW),
    "unknown version": Infer("simple", ROW, version="9"),
    "a version that is no number": Infer("simple", ROW, version="abc"),
    "a version that the policy leaves out": Infer(
        "chosen_versions", [Input("IN", "FP32", [1], [1.0])], version="2"
    ),
    "a model that failed to load": Infer("broken", ROW),
    "an unknown input": Infer("simple", [ROW[0], Input("X", "INT32", [1, 16], ONES)]),
    "one input too many": Infer("simple", [*ROW, Input("X", "INT32", [1, 16], ONES)]),
    "a missing input": Infer("simple", ROW[:1]),
    "a missing input of a request with an id": Infer("simple", ROW[:1], id="7"),
    "no inputs": Infer("simple", []),
    "a missing input beside an optional one": Infer(
        "optional", [Input("SCALE", "FP32", [1], [3.0])]
    ),
    "too many inputs beside an optional one": Infer(
        "optional",
        [Input(name, "FP32", [1], [3.0]) for name in ("IN", "SCALE", "X")],
    ),
    "an input given twice": Infer("simple", [ROW[0], ROW[0]]),
    "an unknown output": Infer("simple", ROW, [Output("X")]),
    "an output asked for twice": Infer("simple", ROW, [Output("OUTPUT0"), Output("OUTPUT0")]),
    "another datatype": _first(datatype="FP32", data=[0.0] * 16),
    "an unequal batch": _first(shape=[2, 16], data=SIXTEEN * 2),
    "too large a batch": _both([9, 16]),
    "a batch of nothing": _both([0, 16]),
    "another shape": _first(shape=[1, 15], data=SIXTEEN[:15]),
    "no batch dimension": _both([4]),
    "one dimension too many": _first(shape=[1, 16, 1]),
    "no dimension": _first(shape=[], data=[1]),
    "fewer data than the shape": _first(data=SIXTEEN[:15]),
    "more data than the shape": _first(data=[*SIXTEEN, 16]),
    "no data": _first(data=[]),
    "fewer texts than the shape": Infer("text_rows", [Input("IN", "BYTES", [2, 1], ["a"])]),
    "a reserved parameter": Infer("simple", ROW, parameters={"triton_made_up": 1}),
    "headers as a parameter": Infer("simple", ROW, parameters={"headers": 1}),
    "a timeout that is a text": Infer("simple", ROW, parameters={"timeout": "soon"}),
    "a negative timeout": Infer("simple", ROW, parameters={"timeout": -1}),
    "a priority that is a text": Infer("simple", ROW, parameters={"priority": "high"}),
    "a sequence id that is a real": Infer("simple", ROW, parameters={"sequence_id": 0.5}),
    "a sequence id of too many characters": Infer(
        "simple", ROW, parameters={"sequence_id": 129 * "x"}
    ),
    "a negative sequence id": Infer("simple", ROW, parameters={"sequence_id": -1}),
    "a sequence start that is a number": Infer("simple", ROW, parameters={"sequence_start": 1}),
    "classes of which there is a text": Infer(
        "simple", ROW, [Output("OUTPUT0", {"classification": "2"})]
    ),
    "a negative count of classes": Infer(
        "simple", ROW, [Output("OUTPUT0", {"classification": -1})]
    ),
    "classes of booleans": _echo("BOOL", [True, False], _CLASSES),
    "a model that fails to run": Infer("failing", [Input("IN", "INT64", [1], [7])]),
    "an unknown region of shared memory": _first(
        data=[],
        shape=[1, 16],
        parameters={"shared_memory_region": "nowhere", "shared_memory_byte_size": 64},
    ),
    "an unknown region for an output": Infer(
        "simple",
        ROW,
        [Output("OUTPUT0", {"shared_memory_region": "nowhere", "shared_memory_byte_size": 64})],
    ),
}
# Half floats and unknown datatypes have no typed contents.
UNTYPED: Final[dict[str, Infer]] = {
    "an unknown datatype": _first(datatype="INT33"),
    "a datatype in small letters": _first(datatype="int32"),
    "no datatype": _first(datatype=""),
    "classes of half floats": _echo("FP16", [0.5, 1.0], _CLASSES),
}
# What JSON cannot even say.
NO_JSON: Final[dict[str, Infer]] = {
    "a text that is not UTF-8": Infer("text_rows", [Input("IN", "BYTES", [1, 1], [b"\xff"])]),
}


def _posted(content: bytes | Mapping[str, Any], **headers: str) -> Http:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Http("POST", INFER, text, named)


def _with(**members: Any) -> Http:
    return _posted(as_document() | members)


def _input(**members: Any) -> Http:
    """The first input with these members; None takes one away."""
    document = as_document()
    changed = document["inputs"][0] | members
    document["inputs"][0] = {name: value for name, value in changed.items() if value is not None}
    return _posted(document)


def _output(parameters: Any) -> Http:
    return _with(outputs=[{"name": "OUTPUT0", "parameters": parameters}])


JSON: Final[dict[str, Call]] = {
    "no JSON": _posted(b"nope"),
    "JSON that ends early": _posted(b'{"inputs":'),
    "two documents": _posted(b"{} {}"),
    "nothing at all": _posted(b""),
    "a list": _posted(b"[]"),
    "null": _posted(b"null"),
    "no JSON for an unknown model": Http("POST", "/v2/models/nobody/infer", b"nope"),
    "no inputs member": _posted(b"{}"),
    "inputs that are null": _with(inputs=None),
    "inputs that are an object": _with(inputs={}),
    "an input that is a number": _with(inputs=[1]),
    "an input of no members": _with(inputs=[{}]),
    "outputs that are null": _with(outputs=None),
    "outputs that are an object": _with(outputs={}),
    "an output without a name": _with(outputs=[{}]),
    "an id that is a number": _with(id=5),
    "parameters that are a list": _with(parameters=[]),
    "a parameter that is null": _with(parameters={"a": None}),
    "a parameter that is a list": _with(parameters={"a": [1]}),
    "a parameter that is an object": _with(parameters={"a": {}}),
    "binary_data_output that is a number": _with(parameters={"binary_data_output": 1}),
    "binary_data that is a number": _output({"binary_data": 1}),
    "parameters of an output that are a list": _output([]),
    "an input without a name": _input(name=None),
    "an input without a shape": _input(shape=None),
    "an input without a datatype": _input(datatype=None),
    "an input without data": _input(data=None),
    "a name that is a number": _input(name=5),
    "a datatype that is a number": _input(datatype=5),
    "a shape that holds a text": _input(shape=["1", 16]),
    "a shape that holds a real": _input(shape=[1.0, 16]),
    "a negative dimension": _input(shape=[-1, 16]),
    "a shape that is a number": _input(shape=16),
    "data that are a number": _input(data=5),
    "data that are a text": _input(data="0123456789abcdef"),
    "texts for integers": _input(data=["1"] * 16),
    "reals for integers": _input(data=[1.5] * 16),
    "booleans for integers": _input(data=[True] * 16),
    "nulls for integers": _input(data=[None] * 16),
    "integers out of range": _input(data=[2**31] * 16),
    "data in two places": _input(parameters={"binary_data_size": 64}),
    "data in the JSON and in shared memory": _input(
        parameters={"shared_memory_region": "nowhere", "shared_memory_byte_size": 64}
    ),
    "a region without its size": _input(data=None, parameters={"shared_memory_region": "nowhere"}),
    "a region that is a number": _input(
        data=None, parameters={"shared_memory_region": 5, "shared_memory_byte_size": 64}
    ),
    "a key given twice": _posted(b'{"inputs":[],"inputs":[]}'),
    "a text that is half a character": _posted(b'{"inputs":[],"id":"\\ud800"}'),
    "JSON nested 101 deep": _posted(
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"," + json.dumps(as_document()).encode()[1:]
    ),
    "half floats in JSON": Http(
        "POST",
        "/v2/models/identity_fp16/infer",
        b'{"inputs":[{"name":"IN","datatype":"FP16","shape":[1,1],"data":[1]}]}',
    ),
    "half floats asked for in JSON": Http(
        "POST",
        "/v2/models/identity_fp16/infer",
        b'{"inputs":[{"name":"IN","datatype":"FP16","shape":[1,1],"parameters":'
        b'{"binary_data_size":2}}]}\x00\x3c',
        {"Inference-Header-Content-Length": "97"},
    ),
}
_BINARY: Final = as_binary(SIMPLE)
_LENGTH: Final = int(_BINARY.headers["Inference-Header-Content-Length"])


def _cut(length: str, content: bytes = _BINARY.content or b"") -> Http:
    return Http("POST", INFER, content, {"Inference-Header-Content-Length": length})


BINARY: Final[dict[str, Call]] = {
    "a length that is a text": _cut("abc"),
    "a negative length": _cut("-1"),
    "a length of nothing": _cut(""),
    "a length beyond the body": _cut("99999"),
    "a length of too many digits": _cut("9" * 30),
    "a length with a sign": _cut(f"+{_LENGTH}"),
    "a length that ends in letters": _cut(f"{_LENGTH}abc"),
    "a length that is too short": _cut(str(_LENGTH - 1)),
    "a length that is too long": _cut(str(_LENGTH + 1)),
    "data that end early": _cut(str(_LENGTH), (_BINARY.content or b"")[:-1]),
    "data that go on": _cut(str(_LENGTH), (_BINARY.content or b"") + b"x"),
    "a raw request of a model with two inputs": _cut("0", bytes(64)),
    "a raw request of another size": Http(
        "POST", "/v2/models/variable/infer", bytes(5), {"Inference-Header-Content-Length": "0"}
    ),
    "a raw request of two variable dims": Http(
        "POST",
        "/v2/models/identity_fp32/infer",
        bytes(8),
        {"Inference-Header-Content-Length": "0"},
    ),
    "a raw request of an unknown model": Http(
        "POST", "/v2/models/nobody/infer", bytes(8), {"Inference-Header-Content-Length": "0"}
    ),
    "an unknown packing": _posted(as_document(), Content_Encoding="br"),
    "two packings": _posted(as_document(), Content_Encoding="gzip, gzip"),
    "what is not packed": _posted(as_document(), Content_Encoding="gzip"),
    "a packed body that ends early": _posted(
        gzip.compress(json.dumps(as_document()).encode())[:-9], Content_Encoding="gzip"
    ),
}


def _message(**changes: Any) -> Rpc:
    item = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16]} | changes
    other = {
        "name": "INPUT1",
        "datatype": "INT32",
        "shape": [1, 16],
        "contents": {"int_contents": ONES},
    }
    message = service_pb2.ModelInferRequest(model_name="simple", inputs=[item, other])
    return Rpc("ModelInfer", message)


def _raws(count: int) -> Rpc:
    call = as_raw_contents(SIMPLE)
    del call.message.raw_input_contents[:]
    call.message.raw_input_contents.extend([ROW[0].raw] * count)
    return call


def _typed_and_raw() -> Rpc:
    call = as_typed_contents(SIMPLE)
    call.message.raw_input_contents.extend(one.raw for one in ROW)
    return call


def _unset_parameter() -> Rpc:
    call = as_raw_contents(SIMPLE)
    call.message.parameters["a"].SetInParent()
    return call


GRPC: Final[dict[str, Call]] = {
    "contents of another type": _message(contents={"fp32_contents": SIXTEEN}),
    "contents of two types": _message(contents={"fp32_contents": [1.0], "int_contents": SIXTEEN}),
    "no contents": _message(),
    "an unknown datatype with contents": _message(
        datatype="INT33", contents={"int_contents": SIXTEEN}
    ),
    "a negative dimension": _message(shape=[-1, 16], contents={"int_contents": SIXTEEN}),
    "half floats with contents": _message(datatype="FP16", contents={"fp32_contents": [1.0] * 16}),
    "typed and raw contents": _typed_and_raw(),
    "fewer raw contents than inputs": _raws(1),
    "more raw contents than inputs": _raws(3),
    "a parameter that is unset": _unset_parameter(),
    "no model name": Rpc("ModelInfer", service_pb2.ModelInferRequest()),
}

CASES: Final[dict[str, Call]] = {
    **everywhere(FAULTS),
    **everywhere(UNTYPED, "grpc typed"),
    **everywhere(NO_JSON, "json"),
    **{f"json: {name}": call for name, call in JSON.items()},
    **{f"binary: {name}": call for name, call in BINARY.items()},
    **{f"grpc: {name}": call for name, call in GRPC.items()},
}
