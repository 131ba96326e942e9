"""Too much at once: what was accepted keeps its place, the rest is told so, nobody else suffers."""

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.e2e.repositories import add_identity
from tests.e2e.scrape import pending, scrape
from tests.e2e.server import Server, penstock_server

REJECTED: Final = "REJECTED"
CANCELED: Final = "CANCELED"
RESULT_SECONDS: Final = 30

POLICY: Final = "dynamic_batching { default_queue_policy { %s } }"
TIMEOUT: Final = "default_timeout_microseconds: 100000 timeout_action: %s"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of slow models that run one request at a time, each with another queue policy."""
    folder = tmp_path_factory.mktemp("overload")
    add_identity(folder, "narrow", delay_ms=300, more=POLICY % "max_queue_size: 2")
    add_identity(folder, "rejecting", delay_ms=1000, more=POLICY % TIMEOUT % "REJECT")
    add_identity(folder, "delaying", delay_ms=200, more=POLICY % TIMEOUT % "DELAY")
    add_identity(folder, "overridable", delay_ms=600, more=POLICY % "allow_timeout_override: true")
    add_identity(folder, "merging", delay_ms=600, max_batch_size=2, more="dynamic_batching { }")
    with penstock_server(repository=folder) as server:
        yield server


@pytest.fixture
def stub(busy: Server) -> Iterator[Any]:
    with grpc.insecure_channel(busy.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def rest(busy: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=busy.url, timeout=RESULT_SECONDS) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


class Counts:
    """What the metrics have counted of one model since this was made."""

    def __init__(self, server: Server, model: str) -> None:
        self._server = server
        self._labels = {"model": model, "version": "1"}
        self._before = scrape(server)

    def waiting(self) -> float:
        """Requests in the queue now."""
        return pending(self._server, self._labels["model"])

    def wait_for(self, waiting: int, *, behind: Sequence[Any]) -> None:
        """Until so many requests wait behind those, which run one at a time."""
        while left := sum(not call.done() for call in behind):
            is_so = self.waiting() == waiting + left - 1
            if is_so and left == sum(not call.done() for call in behind):
                return
        raise AssertionError("those have run before so many were seen behind them")

    def grown(self, name: str, **labels: str) -> float:
        labels |= self._labels
        return scrape(self._server).value(name, **labels) - self._before.value(name, **labels)

    def failed(self, reason: str) -> float:
        return self.grown("nv_inference_request_failure", reason=reason)


def message(model: str, value: float, rows: int = 1, **parameters: int) -> Any:
    raw = np.full((rows, 1), value, np.float32).tobytes()
    request = service_pb2.ModelInferRequest(
        model_name=model,
        inputs=[{"name": "x", "datatype": "FP32", "shape": [rows, 1]}],
        raw_input_contents=[raw],
    )
    for name, number in parameters.items():
        request.parameters[name].int64_param = number
    return request


def occupy(stub: Any, counts: Counts, model: str, rows: int = 1) -> list[Any]:
    """Two whole batches of zeros: one runs and one waits, so that what comes next waits longer."""
    calls = [stub.ModelInfer.future(message(model, 0, rows)) for _ in range(2)]
    while counts.waiting() != 1:
        assert not any(call.done() for call in calls)
    return calls


def answer(call: Any) -> float:
    """The one number that a gRPC call gave."""
    return float(np.frombuffer(call.result(RESULT_SECONDS).raw_output_contents[0], "<f4")[0])


def post(rest: httpx.Client, model: str, value: float, **parameters: int) -> httpx.Response:
    item = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}
    body = {"inputs": [item], "parameters": parameters}
    return rest.post(f"/v2/models/{model}/infer", json=body)


def number(call: "Future[httpx.Response]") -> float:
    """The one number that a REST call gave."""
    response = call.result(RESULT_SECONDS)
    assert response.status_code == 200, response.text
    return float(response.json()["outputs"][0]["data"][0])


def test_a_full_queue_refuses_at_once_and_loses_nothing_that_it_holds(
    busy: Server, stub: Any, rest: httpx.Client
) -> None:
    counts = Counts(busy, "narrow")
    calls = []
    accepted = 0
    for _ in range(10):
        # One runs, two wait, and there is no place for more.
        calls += [stub.ModelInfer.future(message("narrow", 1)) for _ in range(5)]
        over_rest = post(rest, "narrow", 1)
        if over_rest.status_code == 429:
            break
        accepted += 1
    expected = "[request id: <id_unknown>] Exceeds maximum queue size of 2 requests"
    assert over_rest.json() == {"error": expected}
    assert int(over_rest.headers["retry-after"]) >= 1

    refused = [call for call in calls if call.code() is not grpc.StatusCode.OK]
    assert refused
    for call in refused:
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call.details() == expected
        # As long as what is accepted will take, as far as is foreseen.
        assert int(dict(call.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
    answered = [answer(call) for call in calls if call not in refused]
    assert answered == [1] * len(answered)
    assert counts.failed(REJECTED) == len(refused) + 1
    total = len(answered) + accepted
    assert counts.grown("nv_inference_request_success") == total
    assert counts.grown("nv_inference_exec_count") == total


def test_whoever_waits_longer_than_the_queues_timeout_is_refused_and_not_computed(
    busy: Server, stub: Any, rest: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    counts = Counts(busy, "rejecting")
    over_grpc = [stub.ModelInfer.future(message("rejecting", 1)) for _ in range(2)]
    over_rest = [pool.submit(post, rest, "rejecting", 1) for _ in range(2)]
    # Whichever came first runs; it takes longer than the others may wait.
    outcomes = [(call.code().name, call.details()) for call in over_grpc]
    for call in over_rest:
        response = call.result(RESULT_SECONDS)
        outcomes.append((response.status_code, response.json().get("error")))
    refused = [outcome for outcome in outcomes if outcome[0] not in ("OK", 200)]
    assert len(refused) == 3
    expected = "Request timeout expired"
    assert set(refused) == {("DEADLINE_EXCEEDED", expected), (504, expected)}
    assert counts.failed(REJECTED) == 3
    assert counts.grown("nv_inference_exec_count") == 1


def test_where_the_policy_delays_the_late_are_answered_all_the_same(
    busy: Server, stub: Any
) -> None:
    counts = Counts(busy, "delaying")
    calls = [stub.ModelInfer.future(message("delaying", value)) for value in range(3)]
    assert [answer(call) for call in calls] == [0, 1, 2]
    assert counts.failed(REJECTED) == 0


def test_a_request_may_shorten_its_wait_where_the_policy_allows(
    busy: Server, stub: Any, rest: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    counts = Counts(busy, "overridable")
    held = occupy(stub, counts, "overridable")
    hasty = [
        pool.submit(post, rest, "overridable", 3, timeout=50_000),
        pool.submit(post, rest, "overridable", 4, timeout=1),
    ]
    for call in hasty:
        assert call.result(RESULT_SECONDS).status_code == 504
    assert [answer(call) for call in held] == [0, 0]
    assert counts.failed(REJECTED) == 2
    assert counts.grown("nv_inference_exec_count") == 2


def test_who_cannot_be_answered_before_the_deadline_is_refused_at_once(
    busy: Server, stub: Any
) -> None:
    counts = Counts(busy, "merging")
    held = occupy(stub, counts, "merging", rows=2)
    calls = [stub.ModelInfer.future(message("merging", 1, rows=2)) for _ in range(60)]
    counts.wait_for(60, behind=held)
    hasty = stub.ModelInfer.future(message("merging", 2, rows=2), timeout=10)
    assert hasty.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the answer is expected in" in hasty.details()
    assert int(dict(hasty.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
    for call in calls:
        call.cancel()
    assert [answer(call) for call in held] == [0, 0]
    assert counts.failed(REJECTED) == 1


def test_callers_that_leave_take_nothing_from_those_that_wait_beside_them(
    busy: Server, stub: Any
) -> None:
    counts = Counts(busy, "merging")
    held = occupy(stub, counts, "merging", rows=2)
    calls = [stub.ModelInfer.future(message("merging", value)) for value in range(8)]
    counts.wait_for(8, behind=held)
    for call in calls[::2]:
        call.cancel()
    counts.wait_for(4, behind=held)
    assert [answer(call) for call in calls[1::2]] == [1, 3, 5, 7]
    assert counts.failed(CANCELED) == 4
    # The four that stayed shared two batches.
    assert counts.grown("nv_inference_exec_count") == 4
    assert counts.grown("nv_inference_count") == 8


def test_connections_that_break_take_nothing_from_those_that_wait_beside_them(
    busy: Server, stub: Any, rest: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    counts = Counts(busy, "merging")
    held = occupy(stub, counts, "merging", rows=2)
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[9]}]}'
    head = "POST /v2/models/merging/infer HTTP/1.1\r\nHost: x\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    host, port = busy.http.split(":")
    for _ in range(2):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body[:-10])
    stayed = [pool.submit(post, rest, "merging", value) for value in (1, 2)]
    assert [number(call) for call in stayed] == [1, 2]
    assert [answer(call) for call in held] == [0, 0]
    assert counts.waiting() == 0
