"""A gateway whose Triton servers are not there: it starts, says so, and serves once one comes."""

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.peers.base import free_ports
from tests.e2e.server import Server, penstock_server

NOBODY = "no Triton server answers at the moment"
X = {"name": "features", "shape": [1, 64], "datatype": "FP32", "data": [0] * 64}


@pytest.fixture(scope="module")
def port() -> int:
    """The gRPC port of the server that is not there yet."""
    [found] = free_ports(1)
    return found


@pytest.fixture(scope="module")
def server(port: int) -> Iterator[Server]:
    url = f"--triton-url=localhost:{port}"
    with penstock_server("--engine=triton", url, repository=None) as server:
        yield server


@pytest.fixture
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_it_is_live_and_not_ready(server: Server) -> None:
    assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 400
    assert httpx.get(f"{server.url}/v2/models/any/ready").status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/any/infer"),
        ("POST", "/predict/any"),
        ("GET", "/v2"),
        ("GET", "/v2/models/any"),
        ("GET", "/v2/models/any/config"),
        ("GET", "/v2/models/stats"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/any/load"),
    ],
)
def test_rest_says_when_to_try_again(server: Server, method: str, path: str) -> None:
    content = b"" if "repository" in path else b'{"inputs":[]}'
    answer = httpx.request(method, f"{server.url}{path}", content=content)
    assert (answer.status_code, answer.json()) == (503, {"error": NOBODY})
    assert answer.headers["retry-after"] == "1"


def test_grpc_says_when_to_try_again(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(service_pb2.ModelInferRequest(model_name="any"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == NOBODY
    assert ("grpc-retry-pushback-ms", "1000") in tuple(caught.value.trailing_metadata())


def test_metrics_are_there_all_the_same_and_tell_who_is_missing(server: Server, port: int) -> None:
    answer = httpx.get(f"http://{server.metrics}/metrics")
    assert answer.status_code == 200
    assert f'penstock_server_up{{server="127.0.0.1:{port}"}} 0.0' in answer.text


def test_a_name_that_stands_for_no_server_is_one_that_cannot_be_reached() -> None:
    flags = ("--engine=triton", "--triton-url=no-such-host.invalid:8001")
    with penstock_server(*flags, repository=None) as alone:
        answer = httpx.get(f"http://{alone.metrics}/metrics")
    assert 'penstock_server_up{server="no-such-host.invalid:8001"} 0.0' in answer.text


def test_it_is_ready_once_a_server_is(server: Server, port: int) -> None:
    # Any server of the protocol will do to be found: this one needs no Triton installed.
    with grpc.insecure_channel(server.grpc) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with penstock_server(f"--grpc-port={port}", "--passport-policy=off"):
            assert next(states).status == health_pb2.HealthCheckResponse.SERVING
            answer = httpx.post(
                f"{server.url}/v2/models/digits-mlp/infer", json={"inputs": [X]}, timeout=60
            )
            assert answer.status_code == 200
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        states.cancel()
