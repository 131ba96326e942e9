"""Routes and calls that do not exist, or are asked for what does not, are refused."""

import math
import socket
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.e2e.asking import (
    LABEL,
    MODEL,
    SIZE,
    UNKNOWN,
    ZEROS,
    Answer,
    answered,
    called,
    infer_text,
    one,
    send_grpc,
)
from tests.e2e.conftest import INPUT_LIMIT
from tests.e2e.server import Server

pytestmark = pytest.mark.usefixtures("unbroken")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", f"/v2/models/{MODEL}/infer", "POST"),
        ("PUT", f"/v2/models/{MODEL}/versions/1/infer", "POST"),
        ("GET", f"/predict/{MODEL}", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/v2", "GET, HEAD"),
        ("DELETE", f"/v2/models/{MODEL}", "GET, HEAD"),
        ("POST", "/v2/health/ready", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    response = http.request(method, path)
    assert answered(response) == Answer(405, f"{method} {path}: Method Not Allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/v1/models/digits-mlp", "/v2/models", "/v2/models/a/b/c", "/predict/"]
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
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


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
