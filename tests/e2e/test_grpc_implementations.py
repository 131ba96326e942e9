"""What answers gRPC may be chosen; clients do not notice which it is, but by the clock."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2, service_pb2_grpc

from serving.bench.client.server_timing import durations
from tests.e2e.repositories import add_identity
from tests.e2e.server import Server, penstock_server

SERVICE = "inference.GRPCInferenceService"
LIMIT = 8 * 1024 * 1024


@pytest.fixture(scope="module", params=["own", "grpcio"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    add_identity(folder, max_batch_size=8)
    add_identity(folder, "slow", delay_ms=500)
    with penstock_server(
        f"--grpc-implementation={request.param}",
        f"--http-max-input-size={LIMIT}",
        "--grpc-infer-response-compression-level=low",
        repository=folder,
    ) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


def message(model: str = "echo", rows: int = 1) -> service_pb2.ModelInferRequest:
    array = np.arange(rows, dtype=np.float32).reshape(rows, 1)
    item = {"name": "x", "datatype": "FP32", "shape": array.shape}
    return service_pb2.ModelInferRequest(
        model_name=model, inputs=[item], raw_input_contents=[array.tobytes()]
    )


def test_health_is_told_and_its_changes_are_watched(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(request)
    assert next(iter(watch)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_tells_the_services_and_their_methods(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in database.get_services()
    file = database.FindFileContainingSymbol(SERVICE)
    assert "ModelInfer" in {each.name for each in file.service[0].method}


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_packed_and_plain_requests_are_answered(server: Server, packing: str | None) -> None:
    with InferenceServerClient(server.grpc) as client:
        item = InferInput("x", [4, 1], "FP32").set_data_from_numpy(np.ones((4, 1), np.float32))
        result = client.infer("echo", [item], compression_algorithm=packing)
        np.testing.assert_array_equal(result.as_numpy("y"), np.ones((4, 1), np.float32))


@pytest.mark.parametrize("packing", [None, grpc.Compression.Gzip])
def test_an_answer_tells_where_its_time_went(channel: grpc.Channel, packing: Any) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answer, call = stub.ModelInfer.with_call(message(rows=3), compression=packing)
    assert answer.model_name == "echo"
    told = dict(call.trailing_metadata())["server-timing"]
    assert [name for name, _ in durations(told)] == ["queue", "batch", "compute", "total"]
    assert 'batch;desc="3 rows"' in told


def test_a_message_too_large_exhausts_the_resources(channel: grpc.Channel) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    large = service_pb2.ModelInferRequest(raw_input_contents=[bytes(LIMIT)])
    with pytest.raises(grpc.RpcError, match="larger than max") as raised:
        stub.ModelInfer(large)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_ends_a_call(channel: grpc.Channel) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(message("slow"), timeout=0.05)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{SERVICE}/Guess")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_unknown_model_is_not_found(channel: grpc.Channel) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    with pytest.raises(grpc.RpcError, match="'none' is not found") as raised:
        stub.ModelInfer(message("none"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_requests_of_a_stream_are_answered_in_their_order(channel: grpc.Channel) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answers = stub.ModelStreamInfer(message(rows=rows) for rows in (1, 2, 3))
    shapes = [list(answer.infer_response.outputs[0].shape) for answer in answers]
    assert shapes == [[1, 1], [2, 1], [3, 1]]
