"""Whatever a client gets wrong, it is told what, where and what was expected; and nobody suffers.

The first table holds faults that every encoding can express: each is sent as JSON, as binary data
over REST and over gRPC, and what the core finds is said in the same words. The others are those
of one protocol alone.
"""

import gzip
import json
import math
import re
import socket
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.dtypes import Datatype
from tests.e2e.conftest import INPUT_LIMIT
from tests.e2e.server import Server

MODEL: Final = "digits-mlp"
ZEROS: Final = [0.0] * 64
# What a message about a request without an id begins with, as in Triton.
LABEL: Final = "[request id: <id_unknown>] "
SIZE: Final = "input byte size mismatch for input 'features' for model 'digits-mlp'"


@dataclass(frozen=True, slots=True)
class Input:
    """An input as a client might send it, whether that makes sense or not."""

    name: str = "features"
    datatype: str = "FP32"
    shape: tuple[int, ...] = (1, 64)
    data: list[float] = field(default_factory=lambda: ZEROS)
    parameters: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        known = {datatype.wire: datatype.numpy for datatype in Datatype}
        return np.array(self.data, known.get(self.datatype, "<f4")).tobytes()


@dataclass(frozen=True, slots=True)
class Request:
    model: str = MODEL
    version: str = ""
    inputs: tuple[Input, ...] = (Input(),)
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"

    @property
    def document(self) -> dict[str, Any]:
        inputs = [
            {
                "name": item.name,
                "datatype": item.datatype,
                "shape": item.shape,
                "parameters": dict(item.parameters),
            }
            for item in self.inputs
        ]
        outputs = [{"name": name} for name in self.outputs]
        return {"inputs": inputs, "outputs": outputs, "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is the protocol's own."""

    status: int | str
    message: str


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as connected:
        yield connected


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def _nothing_was_broken(server: Server) -> Iterator[None]:
    """After the whole of it the server answers, and was never surprised."""
    yield
    good = Request()
    with httpx.Client(base_url=server.url) as client:
        assert send_json(client, good).status == 200
        assert send_binary(client, good).status == 200
    with grpc.insecure_channel(server.grpc) as connected:
        assert send_grpc(connected, good).status == "OK"
    assert not [line for line in server.log if " ERROR " in line or "Traceback" in line]


def send_json(http: httpx.Client, request: Request) -> Answer:
    document = request.document
    for item, given in zip(document["inputs"], request.inputs, strict=True):
        if not given.parameters:
            item["data"] = given.data
    return answered(http.post(request.path, content=json.dumps(document)))


def send_binary(http: httpx.Client, request: Request) -> Answer:
    document = request.document
    tensors = []
    for item, given in zip(document["inputs"], request.inputs, strict=True):
        if not given.parameters:
            item["parameters"]["binary_data_size"] = len(given.raw)
            tensors.append(given.raw)
    head = json.dumps(document).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return answered(http.post(request.path, content=b"".join([head, *tensors]), headers=length))


def answered(response: httpx.Response) -> Answer:
    if response.status_code == 200:
        return Answer(200, "")
    document = response.json()
    assert list(document) == ["error"]
    return Answer(response.status_code, document["error"])


def send_grpc(channel: grpc.Channel, request: Request) -> Answer:
    message = service_pb2.ModelInferRequest(model_name=request.model, model_version=request.version)
    for name, value in request.parameters.items():
        fill(message.parameters[name], value)
    for given in request.inputs:
        item = message.inputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
        for name, value in given.parameters.items():
            fill(item.parameters[name], value)
        message.raw_input_contents.append(given.raw)
    for name in request.outputs:
        message.outputs.add(name=name)
    return called(lambda: service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message))


def fill(message: Any, value: Any) -> None:
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    setattr(message, kinds[type(value)], value)


def called(call: Any) -> Answer:
    try:
        call()
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details())
    return Answer("OK", "")


BAD = (400, "INVALID_ARGUMENT")
UNKNOWN = (404, "NOT_FOUND")
NOT_OFFERED = (501, "UNIMPLEMENTED")


def one(**changes: Any) -> Request:
    return Request(inputs=(Input(**changes),))


def with_value(value: float) -> Request:
    return one(shape=(2, 64), data=[*ZEROS, *ZEROS[:-1], value])


FAULTS: Final[dict[str, tuple[Request, tuple[int, str], str]]] = {
    "unknown model": (
        Request(model="nobody"),
        UNKNOWN,
        "Request for unknown model: 'nobody' is not found",
    ),
    "unknown version": (
        Request(version="9"),
        UNKNOWN,
        "Request for unknown model: 'digits-mlp' version 9 is not found",
    ),
    **{
        f"version {version}": (
            Request(version=version),
            BAD,
            f"version '{version}' of model 'digits-mlp' is not a version; expected a whole number "
            "above 0",
        )
        for version in ("latest", "-1", "1.0", "9" * 30)
    },
    "version 0": (
        Request(version="0"),
        UNKNOWN,
        "Request for unknown model: 'digits-mlp' version 0 is not found",
    ),
    "unknown input": (
        one(name="pixels"),
        BAD,
        "unexpected inference input 'pixels' for model 'digits-mlp'; expected 'features'",
    ),
    "one input too many": (
        Request(inputs=(Input(), Input(name="more"))),
        BAD,
        "unexpected inference input 'more' for model 'digits-mlp'; expected 'features'",
    ),
    "no input": (
        Request(inputs=()),
        BAD,
        f"{LABEL}expected 1 inputs but got 0 inputs for model 'digits-mlp'. Got input(s) [], but "
        "missing required input(s) ['features']. Please provide all required input(s).",
    ),
    "an input twice": (
        Request(inputs=(Input(), Input())),
        BAD,
        "inputs[1].name: expected each name once, got 'features' again",
    ),
    "unknown datatype": (
        one(datatype="FLOAT"),
        BAD,
        "inputs[0].datatype: unknown datatype 'FLOAT'; expected one of BOOL, UINT8, UINT16, "
        "UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES",
    ),
    "wrong datatype": (
        one(datatype="FP64"),
        BAD,
        f"{LABEL}inference input 'features' data-type is 'FP64', but model 'digits-mlp' "
        "expects 'FP32'",
    ),
    "wrong shape": (
        one(shape=(2, 32)),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [2,32].",
    ),
    "no batch dimension": (
        one(shape=(64,)),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [64]. The first dimension is the batch, since max_batch_size is above zero: send one "
        "example as a batch of 1.",
    ),
    "one dimension too many": (
        one(shape=(1, 8, 8)),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [1,8,8].",
    ),
    "no dimensions": (
        one(shape=(), data=[0.0]),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [].",
    ),
    "zero rows": (
        one(shape=(0, 64), data=[]),
        BAD,
        f"{LABEL}inference request batch-size must be >= 1 for 'digits-mlp', "
        "got 0 rows in input 'features'",
    ),
    "too many rows": (
        one(shape=(65, 64), data=ZEROS * 65),
        BAD,
        f"{LABEL}inference request batch-size must be <= 64 for 'digits-mlp', "
        "got 65 rows in input 'features'",
    ),
    "negative dimension": (
        one(shape=(-1, 64)),
        BAD,
        "inputs[0].shape: expected a list of non-negative integers, got [-1, 64]",
    ),
    "too many dimensions": (
        one(shape=(1,) * 33, data=[0.0]),
        BAD,
        "inputs[0].shape: expected at most 32 dimensions, got 33",
    ),
    "a shape beyond any memory": (
        one(shape=(2**40, 2**40), data=[0.0]),
        BAD,
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 1099511627776]",
    ),
    "a zero that hides such a shape": (
        one(shape=(2**40, 2**40, 0), data=[]),
        BAD,
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 1099511627776, 0]",
    ),
    **{
        f"{value}": (
            with_value(value),
            BAD,
            f"{LABEL}input 'features' for model 'digits-mlp' must hold finite numbers, "
            f"got {value} at [1,63]",
        )
        for value in (math.nan, math.inf, -math.inf)
    },
    "unknown output": (
        Request(outputs=("classes",)),
        BAD,
        "unexpected inference output 'classes' for model 'digits-mlp'; expected 'logits', "
        "'probabilities'",
    ),
    "an output twice": (
        Request(outputs=("logits", "logits")),
        BAD,
        "outputs[1].name: expected each name once, got 'logits' again",
    ),
    "a timeout before now": (
        Request(parameters={"timeout": -5}),
        BAD,
        "parameters.timeout: expected an unsigned 64-bit integer of microseconds, got -5",
    ),
    "a timeout in words": (
        Request(parameters={"timeout": "soon"}),
        BAD,
        "parameters.timeout: expected an unsigned 64-bit integer of microseconds, got 'soon'",
    ),
    "a reserved parameter": (
        Request(parameters={"triton_x": 1}),
        BAD,
        "parameters.triton_x: the name is reserved; 'headers' and parameter keys starting with "
        "'triton_' are reserved for Triton usage and should not be specified.",
    ),
    "an input in shared memory": (
        one(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 256}),
        NOT_OFFERED,
        "inputs[0].parameters.shared_memory_region: this server does not offer shared memory; "
        "expected the tensor's data in the request or response itself",
    ),
}


@pytest.mark.parametrize(("request_", "statuses", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_the_same_fault_is_told_in_the_same_words_in_every_encoding(
    http: httpx.Client,
    channel: grpc.Channel,
    request_: Request,
    statuses: tuple[int, str],
    message: str,
) -> None:
    status, code = statuses
    assert send_json(http, request_) == Answer(status, message)
    assert send_binary(http, request_) == Answer(status, message)
    assert send_grpc(channel, request_) == Answer(code, message)


def test_data_that_does_not_fill_its_shape_is_refused_in_every_encoding(
    http: httpx.Client, channel: grpc.Channel
) -> None:
    for count in (0, 63, 65):
        short = one(data=[0.0] * count)
        expected = f"inputs[0].data: expected 64 elements for shape [1, 64], got {count}"
        assert send_json(http, short) == Answer(400, expected)
        expected = f"{LABEL}{SIZE}. Expected 256, got {4 * count}"
        assert send_binary(http, short) == Answer(400, expected)
        assert send_grpc(channel, short) == Answer("INVALID_ARGUMENT", expected)


def infer_text(**changes: Any) -> bytes:
    """A good request in JSON, with other members of its only input; None leaves one out."""
    item = {"name": "features", "datatype": "FP32", "shape": [1, 64], "data": ZEROS} | changes
    item = {key: value for key, value in item.items() if value is not None}
    return json.dumps({"inputs": [item]}).encode()


JSON_FAULTS: Final[dict[str, tuple[bytes, str]]] = {
    "nothing": (b"", "failed to parse the request JSON buffer: .*"),
    "half of it": (b'{"inputs": [', "failed to parse the request JSON buffer: .*"),
    "no JSON": (b"features=1", "failed to parse the request JSON buffer: .*"),
    "no Unicode": (b'{"id": "\xff\xfe"}', "failed to parse the request JSON buffer: .*"),
    "deep nesting": (
        b'{"inputs": ' + b"[" * 200 + b"]" * 200 + b"}",
        "failed to parse the request JSON buffer: JSON nesting depth exceeds the limit of 100",
    ),
    "a key twice": (
        b'{"inputs": [], "inputs": []}',
        "failed to parse the request JSON buffer: key 'inputs' is given more than once in one "
        "object",
    ),
    "a list": (b"[]", r"request: expected a JSON object, got \[\]"),
    "no inputs": (b"{}", "inputs: expected a list, got null"),
    "inputs that are none": (b'{"inputs": 7}', "inputs: expected a list, got 7"),
    "an input that is none": (
        b'{"inputs": ["features"]}',
        r"inputs\[0\]: expected a JSON object, got 'features'",
    ),
    "an id that is no text": (b'{"id": 7, "inputs": []}', "id: expected a string, got 7"),
    "parameters that are none": (
        b'{"parameters": [], "inputs": []}',
        r"parameters: expected a JSON object, got \[\]",
    ),
    "no name": (infer_text(name=None), r"inputs\[0\].name: expected a string, got null"),
    "no datatype": (
        infer_text(datatype=None),
        r"inputs\[0\].datatype: unknown datatype None; expected one of BOOL, .*",
    ),
    "no shape": (
        infer_text(shape=None),
        r"inputs\[0\].shape: expected a list of non-negative integers, got null",
    ),
    "a shape of texts": (
        infer_text(shape=["1", "64"]),
        r"inputs\[0\].shape: expected a list of non-negative integers, got \['1', '64'\]",
    ),
    "a shape of fractions": (
        infer_text(shape=[1, 64.5]),
        r"inputs\[0\].shape: expected a list of non-negative integers, got \[1, 64.5\]",
    ),
    "no data": (
        infer_text(data=None),
        r"inputs\[0\]: expected either data or parameters.binary_data_size, got neither",
    ),
    "base64 in place of numbers": (
        infer_text(data="AAAAAAAA//8="),
        r"inputs\[0\].data: expected a list, got 'AAAAAAAA//8='",
    ),
    "nonsense in place of base64": (
        infer_text(data="%%%"),
        r"inputs\[0\].data: expected a list, got '%%%'",
    ),
    "texts in place of numbers": (
        infer_text(data=["zero"] * 64),
        r"inputs\[0\].data: expected numbers within the range of FP32, got 'zero' at element 0",
    ),
    "a number that FP32 cannot hold": (
        infer_text(data=[*ZEROS[:-1], 1e39]),
        r"inputs\[0\].data: expected numbers within the range of FP32, got 1e\+39 at element 63",
    ),
    "a number that nothing can hold": (
        infer_text().replace(b"0.0", b"1e999", 1),
        "failed to parse the request JSON buffer: .*",
    ),
    "a row that is too short": (
        infer_text(data=[ZEROS[:-1]]),
        r"inputs\[0\].data: expected one flat list or lists nested as shape \[1, 64\], "
        "got a list of 63 in place of 64",
    ),
    "binary data without any": (
        infer_text(data=None, parameters={"binary_data_size": 256}),
        "unexpected size for input 'features', expecting 256 additional bytes for model "
        "'digits-mlp'",
    ),
}


@pytest.mark.parametrize(("content", "message"), JSON_FAULTS.values(), ids=JSON_FAULTS.keys())
def test_json_that_is_no_request_is_refused(
    http: httpx.Client, content: bytes, message: str
) -> None:
    answer = answered(http.post(f"/v2/models/{MODEL}/infer", content=content))
    assert answer.status == 400
    assert re.fullmatch(message, answer.message), answer.message


@pytest.mark.parametrize(
    ("announced", "length", "message"),
    [
        (256, 255, "unexpected size for input 'features', expecting 1 additional bytes for model"),
        (256, 0, "unexpected size for input 'features', expecting 256 additional bytes for model"),
        (256, 257, "unexpected additional input data for model 'digits-mlp': the binary_data_size"),
        (252, 252, f"{LABEL}{SIZE}"),
        (-1, 256, "inputs[0].parameters.binary_data_size: expected a non-negative integer, got -1"),
        ("256", 256, "inputs[0].parameters.binary_data_size: expected a non-negative integer, go"),
    ],
)
def test_a_binary_part_that_is_not_as_long_as_announced_is_refused(
    http: httpx.Client, announced: int | str, length: int, message: str
) -> None:
    head = infer_text(data=None, parameters={"binary_data_size": announced})
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer",
            content=head + bytes(length),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
    )
    assert answer.status == 400
    assert answer.message.startswith(message)


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "1e3", "0x10", "9" * 40])
def test_a_length_of_the_json_part_that_is_none_is_refused(http: httpx.Client, value: str) -> None:
    content = infer_text()
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer",
            content=content,
            headers={"Inference-Header-Content-Length": value},
        )
    )
    assert answer.status == 400
    expected = f"an integer from 0 to the body's {len(content)} bytes"
    assert answer.message.startswith(f"Inference-Header-Content-Length: expected {expected}, got ")


def test_a_raw_body_of_another_size_than_the_input_is_refused(http: httpx.Client) -> None:
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer",
            content=bytes(100),
            headers={"Inference-Header-Content-Length": "0"},
        )
    )
    assert answer == Answer(
        400,
        f"{LABEL}{SIZE}. Expected 256, got 100",
    )


TOO_LARGE: Final = (
    f"the request body has more than {INPUT_LIMIT} bytes; the server accepts at most {INPUT_LIMIT} "
    "(--http-max-input-size)"
)
POSTS: Final = [f"/v2/models/{MODEL}/infer", f"/predict/{MODEL}", "/v2/repository/index"]


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(
    server: Server, path: str
) -> None:
    host, port = server.http.split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {INPUT_LIMIT + 1}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_grows_too_large_chunk_by_chunk_is_refused(
    http: httpx.Client, path: str
) -> None:
    chunks = (bytes(64 * 1024) for _ in range(INPUT_LIMIT // (64 * 1024) + 1))
    assert answered(http.post(path, content=chunks)) == Answer(413, TOO_LARGE)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_small_body_that_unpacks_to_a_large_one_is_refused(
    http: httpx.Client, path: str, encoding: str
) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    answer = answered(
        http.post(
            path, content=pack(bytes(64 * 1024 * 1024)), headers={"Content-Encoding": encoding}
        )
    )
    assert answer == Answer(413, TOO_LARGE.replace(" bytes;", " bytes once unpacked;"))


@pytest.mark.parametrize(
    "content",
    [b"not packed", gzip.compress(infer_text(), mtime=0)[:-9]],
    ids=["not packed", "cut off"],
)
def test_a_broken_packed_body_is_refused(http: httpx.Client, content: bytes) -> None:
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer", content=content, headers={"Content-Encoding": "gzip"}
        )
    )
    assert answer.status == 400
    assert re.match("the body(?:'s gzip data ends too early| is not valid gzip)", answer.message)


def test_an_unknown_packing_is_not_offered_and_the_answer_says_which_are(
    http: httpx.Client,
) -> None:
    response = http.post(
        f"/v2/models/{MODEL}/infer", content=infer_text(), headers={"Content-Encoding": "br"}
    )
    assert answered(response) == Answer(
        501, "Content-Encoding is 'br', expected one of: gzip, deflate"
    )
    assert response.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", f"/v2/models/{MODEL}/infer", "POST"),
        ("PUT", f"/v2/models/{MODEL}/versions/1/infer", "POST"),
        ("GET", f"/predict/{MODEL}", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/v2", "GET"),
        ("DELETE", f"/v2/models/{MODEL}", "GET"),
        ("POST", "/v2/health/ready", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    response = http.request(method, path)
    assert answered(response) == Answer(405, f"{method} {path}: Method Not Allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/v1/models/digits-mlp", "/v2/models", "/v2/models/a/b/c", "/predict/"]
)
def test_an_unknown_route_is_not_found(http: httpx.Client, path: str) -> None:
    response = http.get(path, follow_redirects=False)
    assert answered(response) == Answer(404, f"GET {path}: Not Found")


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fetc", "a%00b", "%f0%9f%90%99", "x" * 999])
def test_a_strange_model_name_is_just_an_unknown_model(http: httpx.Client, name: str) -> None:
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/config", f"/v2/models/{name}/passport"):
        assert answered(http.get(path)).status == 404
    assert answered(http.post(f"/v2/models/{name}/infer", content=infer_text())).status == 404


def test_an_unknown_model_has_no_statistics_which_is_an_invalid_argument_as_in_triton(
    http: httpx.Client, channel: grpc.Channel
) -> None:
    message = "requested model 'nobody' is not available"
    assert answered(http.get("/v2/models/nobody/stats")) == Answer(400, message)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = service_pb2.ModelStatisticsRequest(name="nobody")
    assert called(lambda: stub.ModelStatistics(request)) == Answer("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "request: expected an object, got []"),
        (b'{"ready": 1}', "ready: expected a boolean, got 1"),
    ],
)
def test_an_index_request_is_checked_too(http: httpx.Client, content: bytes, message: str) -> None:
    assert answered(http.post("/v2/repository/index", content=content)) == Answer(400, message)


def test_what_is_not_http_gets_an_answer_and_no_more(server: Server) -> None:
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert connection.recv(65536) == b""


def raw_call(channel: grpc.Channel, method: str, content: bytes) -> Answer:
    return called(lambda: channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(content))


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "RepositoryIndex"])
def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel, method: str) -> None:
    answer = raw_call(channel, method, b"\xff\xff\xff\xff")
    assert answer.status == "INVALID_ARGUMENT"
    assert answer.message.startswith(f"the message is not a valid inference.{method}Request: ")


@pytest.mark.parametrize("method", ["ModelTrain", "", "modelinfer"])
def test_an_unknown_grpc_method_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    assert raw_call(channel, method, b"").status == "UNIMPLEMENTED"


def test_a_message_that_is_too_large_is_refused_by_its_size(channel: grpc.Channel) -> None:
    answer = send_grpc(channel, one(shape=(5000, 64), data=ZEROS * 5000))
    assert answer.status == "RESOURCE_EXHAUSTED"
    assert str(INPUT_LIMIT) in answer.message


def test_a_packed_message_that_unpacks_to_a_large_one_is_refused(channel: grpc.Channel) -> None:
    message = service_pb2.ModelInferRequest(
        model_name=MODEL, raw_input_contents=[bytes(4 * INPUT_LIMIT)]
    )
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answer = called(lambda: stub.ModelInfer(message, compression=grpc.Compression.Gzip))
    assert answer == Answer("RESOURCE_EXHAUSTED", "Decompressed message larger than max")


def typed(**contents: Any) -> Any:
    item = {"name": "features", "datatype": "FP32", "shape": [1, 64], "contents": contents}
    return service_pb2.ModelInferRequest(model_name=MODEL, inputs=[item])


def with_raw(message: Any, *raw: bytes) -> Any:
    message.raw_input_contents.extend(raw)
    return message


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (typed(fp64_contents=ZEROS), "inputs[0].contents: expected fp32_contents for FP32, got"),
        (typed(fp32_contents=ZEROS[1:]), f"{LABEL}{SIZE}. Expected 256, got 252"),
        (typed(), f"{LABEL}{SIZE}. Expected 256, got 0"),
        (
            with_raw(typed(fp32_contents=ZEROS), bytes(256)),
            "contents field must not be specified when using raw_input_contents for 'features'",
        ),
        (
            with_raw(typed(), bytes(256), bytes(256)),
            "raw_input_contents: expected one for each of 1 inputs, got 2",
        ),
        (
            typed(fp32_contents=[*ZEROS[1:], math.nan]),
            f"{LABEL}input 'features' for model 'digits-mlp' must hold finite numbers, "
            "got nan at [0,63]",
        ),
    ],
)
def test_typed_contents_are_held_against_their_type_and_shape(
    channel: grpc.Channel, message: Any, says: str
) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answer = called(lambda: stub.ModelInfer(message))
    assert answer.status == "INVALID_ARGUMENT"
    assert answer.message.startswith(says)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
def test_documents_of_unknown_models_and_versions_are_not_found(
    http: httpx.Client, channel: grpc.Channel, method: str
) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    suffix = "/config" if method == "ModelConfig" else ""
    for name, version in (("nobody", ""), (MODEL, "7")):
        request = getattr(service_pb2, f"{method}Request")(name=name, version=version)
        over_grpc = called(lambda request=request: getattr(stub, method)(request))
        middle = f"/versions/{version}" if version else ""
        over_rest = answered(http.get(f"/v2/models/{name}{middle}{suffix}"))
        assert (over_rest.status, over_grpc.status) == UNKNOWN
        assert over_rest.message == over_grpc.message
