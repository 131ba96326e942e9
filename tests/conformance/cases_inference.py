"""Requests that both servers answer: every datatype, shape, encoding and extension."""

import gzip
import json
import zlib
from typing import Any, Final

import numpy as np
from tritonclient.grpc import service_pb2

from tests.conformance.calls import Call, Http, Rpc
from tests.conformance.tensors import Infer, Input, Output, as_binary, as_json, everywhere

SIXTEEN: Final = list(range(16))
ONES: Final = [1] * 16
ROW: Final = (
    Input("INPUT0", "INT32", [1, 16], SIXTEEN),
    Input("INPUT1", "INT32", [1, 16], ONES),
)
SIMPLE: Final = Infer("simple", ROW)
INFER: Final = "/v2/models/simple/infer"

# Two values of each datatype, at the ends of its range where it has any.
ENDS: Final[dict[str, list[Any]]] = {
    "BOOL": [True, False],
    **{
        name.upper(): [int(np.iinfo(name).min), int(np.iinfo(name).max)]
        for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    },
    "FP32": [-1.5, 3.4028234663852886e38],
    "FP64": [-0.1, 1.7976931348623157e308],
    "BYTES": ["", "snow ☃ and a \0"],
}


def _echo(datatype: str, data: list[Any], shape: list[int], **more: Any) -> Infer:
    return Infer(f"identity_{datatype.lower()}", [Input("IN", datatype, shape, data)], **more)


def _batch(model: str, rows: list[list[float]], *outputs: Output) -> Infer:
    data = [value for row in rows for value in row]
    return Infer(model, [Input("IN", "FP32", [len(rows), len(rows[0])], data)], outputs)


_CLASSES: Final = [[1.0, 2.0, 3.0, 2.5], [0.0, 0.0, 5.0, 0.0]]

ANSWERED: Final[dict[str, Infer]] = {
    "two inputs": SIMPLE,
    "a batch": Infer(
        "simple",
        [
            Input("INPUT0", "INT32", [3, 16], SIXTEEN * 3),
            Input("INPUT1", "INT32", [3, 16], ONES * 3),
        ],
    ),
    "inputs in another order": Infer("simple", ROW[::-1]),
    "a model that does not batch": Infer(
        "simple_alone",
        [
            Input("INPUT0", "INT32", [4], SIXTEEN[:4]),
            Input("INPUT1", "INT32", [4], ONES[:4]),
        ],
    ),
    "an id": Infer("simple", ROW, id="my request 1"),
    "one output": Infer("simple", ROW, [Output("OUTPUT1")]),
    "both outputs": Infer("simple", ROW, [Output("OUTPUT0"), Output("OUTPUT1")]),
    "outputs in another order": Infer("simple", ROW, [Output("OUTPUT1"), Output("OUTPUT0")]),
    "an explicit version": _echo("FP32", [1.5], [1, 1], version="1"),
    "one of several versions": Infer(
        "all_versions", [Input("IN", "FP32", [2], [0.5, 2.0])], version="2"
    ),
    "the latest of several versions": Infer(
        "latest_versions", [Input("IN", "FP32", [2], [0.5, 2.0])]
    ),
    "custom parameters": Infer(
        "simple", ROW, parameters={"text": "a", "flag": True, "number": 3, "real": 0.5}
    ),
    "a timeout and a priority": Infer(
        "simple", ROW, parameters={"timeout": 10_000_000, "priority": 1}
    ),
    "a sequence id that no scheduler reads": Infer(
        "simple", ROW, parameters={"sequence_id": 7, "sequence_start": True, "sequence_end": True}
    ),
    "variable rows": _batch("variable", [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "rows that are scalars": _batch("scalar_rows", [[1.0], [2.0], [3.0]]),
    "rows of text": Infer("text_rows", [Input("IN", "BYTES", [2, 1], ["a", "☃"])]),
    "text of no length": _echo("BYTES", [""], [1, 1]),
    "the best classes": _batch("labelled", _CLASSES, Output("OUT", {"classification": 2})),
    "more classes than there are": _batch(
        "labelled", _CLASSES, Output("OUT", {"classification": 9})
    ),
    "no classes": _batch("labelled", _CLASSES, Output("OUT", {"classification": 0})),
    "classes of equal weight": _batch(
        "labelled", [[1.0, 1.0, 1.0, 1.0]], Output("OUT", {"classification": 3})
    ),
    "classes of integers": Infer("simple", ROW, [Output("OUTPUT1", {"classification": 3})]),
    **{
        f"classes of {datatype}": _echo(
            datatype, ENDS[datatype], [2], outputs=[Output("OUT", {"classification": 2})]
        )
        for datatype in ("UINT8", "INT8", "UINT64", "INT64", "FP64")
    },
    "an optional input": Infer(
        "optional", [Input("IN", "FP32", [2], [1.0, 2.0]), Input("SCALE", "FP32", [1], [3.0])]
    ),
    "an optional input that is left out": Infer("optional", [Input("IN", "FP32", [2], [1.0, 2.0])]),
    "classes of a model that does not batch": _echo(
        "FP32", [0.25, 3.0], [1, 2], outputs=[Output("OUT", {"classification": 1})]
    ),
    **{f"both ends of {name}": _echo(name, data, [1, 2]) for name, data in ENDS.items()},
    **{f"nothing of {name}": _echo(name, [], [0, 2]) for name in ENDS},
}


def _document(**members: Any) -> bytes:
    return json.dumps(as_document() | members).encode()


def as_document() -> dict[str, Any]:
    """The JSON of the request of `simple`."""
    document: dict[str, Any] = json.loads(as_json(SIMPLE).content or b"")
    return document


def _numbers(text: bytes) -> bytes:
    """A request whose data are `text`, as JSON that Python might not write."""
    return b'{"inputs":[{"name":"IN","datatype":"FP32","shape":[1,2],"data":%b}]}' % text


_DOUBLED: Final = as_json(SIMPLE).content or b""
_BINARY: Final = as_binary(SIMPLE)
_HALF: Final = as_binary(_echo("FP16", [0.5, -2.0], [1, 2]))
_WIDE: Final = as_json(_batch("variable", [[float(i) for i in range(1000)]]))


def _mixed() -> Http:
    """One input in the JSON and one behind it; the answer's outputs likewise."""
    document = as_document()
    del document["inputs"][1]["data"]
    document["inputs"][1]["parameters"] = {"binary_data_size": 64}
    document["outputs"] = [
        {"name": "OUTPUT0", "parameters": {"binary_data": True}},
        {"name": "OUTPUT1", "parameters": {"binary_data": False}},
    ]
    text = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Http("POST", INFER, text + ROW[1].raw, headers)


def _raw(model: str, content: bytes) -> Http:
    headers = {"Inference-Header-Content-Length": "0"}
    return Http("POST", f"/v2/models/{model}/infer", content, headers)


def _accepting(request: Http, encoding: str) -> Http:
    headers = {**request.headers, "Accept-Encoding": encoding}
    return Http("POST", request.path, request.content, headers)


def _packed(request: Http, encoding: str, content: bytes) -> Http:
    return Http("POST", request.path, content, {**request.headers, "Content-Encoding": encoding})


CASES: Final[dict[str, Call]] = {
    **everywhere(ANSWERED),
    **everywhere({"half floats": _echo("FP16", [0.5, -2.0], [1, 2])}, "json", "grpc typed"),
    "json: nested data": Http(
        "POST",
        INFER,
        _document(inputs=[{**item, "data": [item["data"]]} for item in as_document()["inputs"]]),
    ),
    "json: data nested otherwise than the shape is": Http(
        "POST",
        INFER,
        _document(
            inputs=[
                {**item, "data": [item["data"][:8], item["data"][8:]]}
                for item in as_document()["inputs"]
            ]
        ),
    ),
    "json: members that nobody knows": Http("POST", INFER, _document(unknown={"a": [1]})),
    "json: an empty id": Http("POST", INFER, _document(id="")),
    "json: empty outputs": Http("POST", INFER, _document(outputs=[])),
    "json: all outputs binary": Http(
        "POST", INFER, _document(parameters={"binary_data_output": True})
    ),
    "json: all outputs binary but one": Http(
        "POST",
        INFER,
        _document(
            parameters={"binary_data_output": True},
            outputs=[
                {"name": "OUTPUT0", "parameters": {"binary_data": False}},
                {"name": "OUTPUT1"},
            ],
        ),
    ),
    "json: integers for floats": Http("POST", "/v2/models/identity_fp32/infer", _numbers(b"[1,2]")),
    "json: numbers that are not finite": Http(
        "POST", "/v2/models/identity_fp32/infer", _numbers(b"[NaN,-Infinity]")
    ),
    "json: floats of many digits": Http(
        "POST", "/v2/models/identity_fp32/infer", _numbers(b"[0.1,1e-30]")
    ),
    "json: white space around": Http("POST", INFER, b" \n" + _DOUBLED + b"\n "),
    "json: another content type": Http("POST", INFER, _DOUBLED, {"Content-Type": "text/plain"}),
    "json: length of all of it": Http(
        "POST", INFER, _DOUBLED, {"Inference-Header-Content-Length": str(len(_DOUBLED))}
    ),
    "binary: input and output each way": _mixed(),
    "raw: one variable dim": _raw("all_versions", np.arange(3, dtype="<f4").tobytes()),
    "raw: a batch of one": _raw("variable", np.arange(3, dtype="<f4").tobytes()),
    "raw: nothing for a variable dim": _raw("all_versions", b""),
    "raw: a text": _raw("text_rows", "a ☃".encode()),
    "gzip: request": _packed(_BINARY, "gzip", gzip.compress(_BINARY.content or b"")),
    "deflate: request": _packed(_BINARY, "deflate", zlib.compress(_BINARY.content or b"")),
    "gzip: request that is called deflate": _packed(
        _BINARY, "deflate", gzip.compress(_BINARY.content or b"")
    ),
    "deflate: request that is called gzip": _packed(
        _BINARY, "gzip", zlib.compress(_BINARY.content or b"")
    ),
    "json: a byte order mark": Http("POST", INFER, b"\xef\xbb\xbf" + _DOUBLED),
    "identity: request": _packed(_BINARY, "identity", _BINARY.content or b""),
    "gzip: JSON request": _packed(as_json(SIMPLE), "gzip", gzip.compress(_DOUBLED)),
    "gzip: large answer": _accepting(_WIDE, "gzip"),
    "deflate: large answer": _accepting(_WIDE, "deflate"),
    "gzip: small answer": _accepting(_BINARY, "gzip"),
    "any encoding: large answer": _accepting(_WIDE, "*"),
    "identity: large answer": _accepting(_WIDE, "identity"),
    "gzip and deflate: large answer": _accepting(_WIDE, "gzip, deflate"),
    "weighted encodings: large answer": _accepting(_WIDE, "gzip;q=0.1, deflate;q=0.9"),
    "gzip refused: large answer": _accepting(_WIDE, "gzip;q=0"),
    "unknown encoding: large answer": _accepting(_WIDE, "br"),
    "grpc: unset contents of no elements": Rpc(
        "ModelInfer",
        service_pb2.ModelInferRequest(
            model_name="identity_int32",
            inputs=[{"name": "IN", "datatype": "INT32", "shape": [0, 2]}],
        ),
    ),
}
