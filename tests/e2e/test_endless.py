"""What a model computes for nobody is ended, however long it would have taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.e2e.scrape import scrape
from tests.e2e.server import Server, penstock_server
from tests.endless import FOR_EVER, looping

_CONFIG: Final = """\
backend: "onnxruntime"
input { name: "rounds" data_type: TYPE_INT64 dims: 1 }
output { name: "done" data_type: TYPE_INT64 dims: 1 }
"""


def add_loop(repository: Path, name: str) -> None:
    """A model that goes round as often as it is told, and says how often that was.

    It is over at once for the zeros of its warm-up: nothing but the graph itself tells that it may
    take long.
    """
    model = looping()
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1/model.onnx").write_bytes(model.SerializeToString())
    (repository / name / "config.pbtxt").write_text(_CONFIG)


@pytest.fixture(scope="module", params=[0, 1], ids=["one process", "a worker"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("endless")
    for name in ("rest", "grpc"):
        add_loop(repository, name)
    with penstock_server(f"--workers={request.param}", repository=repository) as running:
        yield running


def body(rounds: int) -> dict[str, Any]:
    item = {"name": "rounds", "datatype": "INT64", "shape": [1], "data": [rounds]}
    return {"inputs": [item]}


def message(rounds: int) -> service_pb2.ModelInferRequest:
    return service_pb2.ModelInferRequest(
        model_name="grpc",
        inputs=[{"name": "rounds", "datatype": "INT64", "shape": [1]}],
        raw_input_contents=[np.array([rounds], np.int64).tobytes()],
    )


def test_a_client_that_hangs_up_leaves_the_model_to_the_next(server: Server) -> None:
    url = f"{server.url}/v2/models/rest/infer"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body(FOR_EVER), timeout=1)
    answer = httpx.post(url, json=body(3), timeout=60)
    assert answer.json()["outputs"][0]["data"] == [3]
    assert_wasted(server, "rest")


def test_a_deadline_that_passes_leaves_the_model_to_the_next(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(message(FOR_EVER), timeout=1)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        answer = stub.ModelInfer(message(3), timeout=60)
    assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [3]
    assert_wasted(server, "grpc")


def assert_wasted(server: Server, model: str) -> None:
    """One execution came to its end, and the other is told as waste and as nobody's failure."""
    metrics = scrape(server)
    labels = {"model": model, "version": "1"}
    assert metrics.value("nv_inference_exec_count", **labels) == 1
    assert metrics.value("penstock_wasted_rows_total", **labels) == 1
    assert metrics.value("penstock_wasted_compute_seconds_total", **labels) > 0
    failures = {
        reason: metrics.value("nv_inference_request_failure", reason=reason, **labels)
        for reason in ("CANCELED", "BACKEND")
    }
    assert failures == {"CANCELED": 1, "BACKEND": 0}
