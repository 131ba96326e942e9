"""When batches run, in which parts, what they cost, and what clients and operators see of it."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.bench.client.server_timing import durations
from tests.e2e.clients import CLIENTS, connect
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import Scrape, scrape
from tests.e2e.server import Server, penstock_server
from tests.ensembles import ensemble, step

# An hour: whoever waited that long would be given up by any client.
DELAY = "dynamic_batching { max_queue_delay_microseconds: 3600000000 }"
OBJECTIVE = 'parameters { key: "latency_objective_ms" value { string_value: "300" } }'
CHAIN = 'platform: "ensemble" max_batch_size: 4'
TENSORS = """\
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
"""
SPLITS = 'parameters { key: "split_large_requests" value { string_value: "true" } }'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("batching")
    add_identity(repository, "echo", max_batch_size=4, more="response_cache { enable: true }")
    add_identity(repository, "patient", max_batch_size=4, more=DELAY + OBJECTIVE)
    add_identity(repository, "splitting", max_batch_size=4, more="dynamic_batching { }" + SPLITS)
    add_identity(repository, "slow", max_batch_size=4, delay_ms=300)
    (repository / "chain/1").mkdir(parents=True)
    chain = ensemble(step("patient", "x=x", "y=y"), head=CHAIN, tensors=TENSORS)
    (repository / "chain/config.pbtxt").write_text(chain)
    with penstock_server("--cache-config=local,size=1048576", repository=repository) as running:
        yield running


def value(metrics: Scrape, name: str, model: str) -> float:
    return metrics.value(name, model=model, version="1")


def post(server: Server, model: str, rows: int = 1) -> httpx.Response:
    item = {"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": list(range(rows))}
    url = f"{server.url}/v2/models/{model}/infer"
    answer = httpx.post(url, json={"inputs": [item]}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def item_of(item: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": [item]}).encode()


def test_a_batch_does_not_wait_for_company_beyond_the_latency_objective(server: Server) -> None:
    told = dict(durations(post(server, "patient").headers["server-timing"]))
    # It waited for company, an instance being free all the while, and not for an hour.
    assert 0 < told["batch"] <= told["queue"]


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_large_request_is_answered_as_a_small_one_is(server: Server, name: str) -> None:
    before = scrape(server)
    x = np.arange(10, dtype=np.float32).reshape(10, 1)
    async with connect(name, server) as client:
        answer = await client.infer("splitting", {"x": x})
    np.testing.assert_array_equal(answer.as_numpy("y"), x)
    after = scrape(server)
    grown = {
        series: value(after, series, "splitting") - value(before, series, "splitting")
        for series in (
            "nv_inference_request_success",
            "nv_inference_count",
            "nv_inference_exec_count",
        )
    }
    assert list(grown.values()) == [1, 10, 3]


def test_every_answer_tells_where_its_time_went(server: Server) -> None:
    first = post(server, "echo", rows=2)
    told = dict(durations(first.headers["server-timing"]))
    assert list(told) == ["queue", "batch", "compute", "total"]
    assert told["batch"] <= told["queue"] <= told["total"]
    assert 'batch;desc="2 rows"' in first.headers["server-timing"]
    # From the cache it took nothing but a look.
    again = dict(durations(post(server, "echo", rows=2).headers["server-timing"]))
    assert again == {"queue": 0, "batch": 0, "compute": 0, "total": again["total"]}


@pytest.mark.parametrize(
    ("model", "shape", "status"),
    [("none", [1, 1], 404), ("echo", [1, -1], 400)],
    ids=["refused", "not decoded"],
)
def test_a_failure_tells_how_long_it_took(
    server: Server, model: str, shape: list[int], status: int
) -> None:
    url = f"{server.url}/v2/models/{model}/infer"
    item = {"name": "x", "datatype": "FP32", "shape": shape, "data": [1]}
    # In pieces a request goes through the framework.
    for content in (item_of(item), iter([item_of(item)])):
        answer = httpx.post(url, content=content, timeout=60)
        assert answer.status_code == status
        assert [name for name, _ in durations(answer.headers["server-timing"])] == ["total"]
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(
                service_pb2.ModelInferRequest(
                    model_name=model, inputs=[{"name": "x", "datatype": "FP32", "shape": shape}]
                )
            )
    told = dict(raised.value.trailing_metadata())["server-timing"]
    assert [name for name, _ in durations(told)] == ["total"]


def test_an_ensemble_tells_what_its_steps_have_waited(server: Server) -> None:
    told = dict(durations(post(server, "chain").headers["server-timing"]))
    # The step waits for company until its objective says that it must not any longer.
    assert 0 < told["batch"] <= told["queue"]


def test_what_is_computed_for_nobody_is_counted_from_zero_on(server: Server) -> None:
    before = scrape(server)
    assert value(before, "penstock_wasted_rows_total", "slow") == 0
    assert value(before, "penstock_wasted_compute_seconds_total", "slow") == 0
    request = service_pb2.ModelInferRequest(
        model_name="slow",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [2, 1]}],
        raw_input_contents=[bytes(8)],
    )
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(request, timeout=0.1)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # This one runs behind it.
    post(server, "slow")
    after = scrape(server)
    executions = value(after, "nv_inference_exec_count", "slow")
    # Where the machine is slow, time may be up before the request has begun to run.
    wasted = executions - 1
    assert value(after, "penstock_wasted_rows_total", "slow") == 2 * wasted
    assert value(after, "penstock_wasted_compute_seconds_total", "slow") >= 0.29 * wasted


def test_the_log_says_who_has_which_processors(server: Server) -> None:
    server.wait_for(r"processors: \d+ \(affinity to \d+, .*\); threads for each model: \d+")
    server.wait_for(r"loaded splitting version 1 in \S+ s: 1 instance x 1 thread$")
