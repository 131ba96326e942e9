"""One server, two engines: what the embedded one answers, one in front of a real Triton does."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests import adders
from tests import sequence_models as sequences
from tests.e2e.browser import open_browser
from tests.e2e.clients import tensor
from tests.e2e.page import Page
from tests.e2e.scrape import scrape
from tests.e2e.server import Server, penstock_server
from tests.ensemble_repository import linear
from tests.triton.server import triton_server

EXPLICIT: Final = ("--model-control-mode=explicit", "--load-model=*")
SECONDS: Final = 60
KEY: Final = "sesame-sesame-sesame-sesame"
HEADERS: Final = {"authorization": f"Bearer {KEY}"}
LABELS: Final = ("ant", "bee", "a: b", "dog")
# Alone, a request to these waits for ever; one more than may wait is refused.
PATIENT: Final = """\
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 3600000000
  default_queue_policy { max_queue_size: 1 } }
"""
BOTH: Final = "version_policy { all { } }"
ONE: Final = "\ninstance_group { count: 1 kind: KIND_CPU }"
FOUR: Final = np.array([[1, 3, 2, 0]], np.float32)
X: Final = np.array([[1.0], [2.0], [3.0]], np.float32)


def build(folder: Path) -> None:
    adders.add(folder, "adder", 1, 2, config=BOTH + ONE)
    adders.add(folder, "patient", 1, config=PATIENT + ONE)
    linear(folder / "labelled", labels=LABELS, more=ONE)
    text = sequences.witness_config("max_sequence_idle_microseconds: 60000000\n", more=ONE)
    sequences.add(folder, "steps", sequences.witness(), text)


@pytest.fixture(scope="module", params=["embedded", "triton"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Penstock with that engine; callers need a key."""
    folder = tmp_path_factory.mktemp("engines")
    build(folder / "repository")
    keys = folder / "keys"
    keys.write_text(f"tester {KEY} infer,admin\n")
    flags = (f"--api-keys-file={keys}",)
    if request.param == "embedded":
        own = (*flags, *EXPLICIT, "--passport-policy=off")
        with penstock_server(*own, repository=folder / "repository") as server:
            yield server
        return
    # Requests that were cancelled in its queue would keep it from ending.
    impatient = (*EXPLICIT, "--exit-timeout-secs=1")
    with triton_server(folder / "repository", *impatient) as triton:
        where = ("--engine=triton", f"--triton-url={triton.grpc}")
        with penstock_server(*flags, *where, repository=None) as server:
            yield server


class Client:
    """One of the official clients, with the key."""

    def __init__(self, module: ModuleType, address: str) -> None:
        self.module = module
        options: dict[str, Any] = {}
        if module is tritonclient.http:
            options = {"network_timeout": SECONDS, "connection_timeout": SECONDS}
        self._client = module.InferenceServerClient(address, **options)

    @property
    def is_grpc(self) -> bool:
        return self.module is tritonclient.grpc

    def ask(self, method: str, *args: Any, **options: Any) -> Any:
        if self.is_grpc and method.startswith("get_"):
            options["as_json"] = True
        return getattr(self._client, method)(*args, headers=dict(HEADERS), **options)

    def infer(self, model: str, x: Any = X, name: str = "x", **options: Any) -> Any:
        return self.ask("infer", model, [tensor(self.module, name, x)], **options)

    def refusal(self, method: str, *args: Any, **options: Any) -> tuple[str, str]:
        """The status and the message."""
        with pytest.raises(InferenceServerException) as caught:
            getattr(self, method)(*args, **options)
        return str(caught.value.status()), str(caught.value.message())

    def close(self) -> None:
        self._client.close()


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    address = server.grpc if request.param == "grpc" else server.http
    module = tritonclient.grpc if request.param == "grpc" else tritonclient.http
    with closing(Client(module, address)) as made:
        yield made


@pytest.fixture
def rest(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=SECONDS) as made:
        yield made


@pytest.fixture
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


METADATA: Final = (("authorization", f"Bearer {KEY}"),)


def message(model: str, identifier: str = "", columns: int = 1) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id=identifier)
    request.inputs.add(name="x", datatype="FP32", shape=[1, columns])
    request.raw_input_contents.append(np.full(columns, 5, np.float32).tobytes())
    return request


@pytest.mark.parametrize(("version", "answers"), [("", "2"), ("1", "1"), ("2", "2")])
def test_a_version_answers(client: Client, version: str, answers: str) -> None:
    result = client.infer("adder", model_version=version, request_id="me")

    np.testing.assert_array_equal(result.as_numpy("y"), X + int(answers))
    said = result.get_response()
    found = (said.model_version, said.id) if client.is_grpc else (said["model_version"], said["id"])
    assert found == (answers, "me")


def test_health_is_that_of_the_models(client: Client) -> None:
    assert client.ask("is_server_live")
    assert client.ask("is_server_ready")
    assert client.ask("is_model_ready", "adder")
    assert client.ask("is_model_ready", "adder", "1")
    assert not client.ask("is_model_ready", "adder", "7")
    assert not client.ask("is_model_ready", "nobody")


def test_extensions_are_told_once(client: Client) -> None:
    extensions = client.ask("get_server_metadata")["extensions"]
    assert len(extensions) == len(set(extensions))
    assert {"trace", "logging", "statistics", "model_repository"} <= set(extensions)
    assert "cuda_shared_memory" not in extensions


def test_models_tell_their_signature_and_configuration(client: Client) -> None:
    signature = client.ask("get_model_metadata", "adder")
    assert signature["versions"] == ["1", "2"]
    assert [int(dim) for dim in signature["inputs"][0]["shape"]] == [-1, 1]
    config = client.ask("get_model_config", "adder")
    config = config["config"] if client.is_grpc else config
    assert config["max_batch_size"] == 4
    assert config["version_policy"] == {"all": {}}


def test_statistics_count_rows(client: Client) -> None:
    def rows() -> int:
        [counted] = client.ask("get_inference_statistics", "adder", "1")["model_stats"]
        return int(counted["inference_count"])

    def after_another() -> int:
        before = rows()
        client.infer("adder", model_version="1")
        # A Triton answers before it counts.
        while (now := rows()) == before:
            pass
        return now

    before = after_another()
    assert after_another() == before + 3


def test_models_come_and_go_as_clients_say(client: Client) -> None:
    client.infer("labelled", FOUR)
    client.ask("unload_model", "labelled")
    assert not client.ask("is_model_ready", "labelled")
    status, _ = client.refusal("infer", "labelled", FOUR)
    assert status == ("StatusCode.NOT_FOUND" if client.is_grpc else "404")
    client.ask("load_model", "labelled")
    assert client.ask("is_model_ready", "labelled")
    assert client.ask("is_server_ready")
    np.testing.assert_array_equal(client.infer("labelled", FOUR).as_numpy("y"), FOUR * 2)
    index = client.ask("get_model_repository_index")
    entries = index["models"] if client.is_grpc else index
    assert {"name": "labelled", "version": "1", "state": "READY"} in entries


def test_a_load_brings_a_configuration_along(server: Server) -> None:
    config, files = adders.config_json(), {"file:3/model.onnx": adders.graph(9)}
    with closing(Client(tritonclient.grpc, server.grpc)) as client:
        client.ask("load_model", "adder", config=config, files=files)
        np.testing.assert_array_equal(client.infer("adder").as_numpy("y"), X + 9)
        client.ask("load_model", "adder")
        np.testing.assert_array_equal(client.infer("adder").as_numpy("y"), X + 2)


FAULTS: Final = {
    "an unknown model": ({"model": "nobody"}, "404", "NOT_FOUND", "unknown model: 'nobody'"),
    "an unknown version": (
        {"model": "adder", "model_version": "7"},
        "404",
        "NOT_FOUND",
        "version 7 is not",
    ),
    "another input": (
        {"model": "adder", "name": "z"},
        "400",
        "INVALID_ARGUMENT",
        "unexpected inference input 'z' for model 'adder'",
    ),
    "another shape": (
        {"model": "adder", "x": np.zeros((1, 3), np.float32)},
        "400",
        "INVALID_ARGUMENT",
        "unexpected shape for input 'x' for model 'adder'",
    ),
    "too many rows": (
        {"model": "adder", "x": np.zeros((9, 1), np.float32)},
        "400",
        "INVALID_ARGUMENT",
        "batch-size must be <= 4 for 'adder'",
    ),
    "a version that is none": (
        {"model": "adder", "model_version": "many"},
        "400",
        "INVALID_ARGUMENT",
        "version",
    ),
}


@pytest.mark.parametrize(("fault", "http", "rpc", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_have_the_same_status_and_words(
    client: Client, fault: dict[str, Any], http: str, rpc: str, words: str
) -> None:
    status, said = client.refusal("infer", **fault)
    assert status == (f"StatusCode.{rpc}" if client.is_grpc else http)
    assert words in said


def test_a_load_that_fails_is_nobodys_fault_but_the_models(client: Client) -> None:
    status, said = client.refusal("ask", "load_model", "nobody")
    assert status == ("StatusCode.FAILED_PRECONDITION" if client.is_grpc else "400")
    assert "failed to load 'nobody'" in said


def test_classes_bear_their_labels(client: Client) -> None:
    output = client.module.InferRequestedOutput("y", class_count=2)
    [best] = client.infer("labelled", FOUR, outputs=[output]).as_numpy("y")
    assert best.tolist() == [b"6.000000:1:bee", b"4.000000:2:a: b"]


def test_predictions_bear_the_labels(rest: httpx.Client) -> None:
    answer = rest.post("/predict/labelled?top_k=2", json=[1, 2, 4, 3]).json()
    [prediction] = answer["predictions"]
    assert [one["label"] for one in prediction["classes"]] == ["a: b", "dog"]
    assert prediction["probability"] == 8.0


def test_models_can_be_tried_on_the_page(server: Server, tmp_path: Path) -> None:
    with open_browser(tmp_path) as browser:
        page = Page(browser, server)
        page.open()
        assert page.refusal().startswith("401: ")
        page.fill("key", KEY)
        page["name"].click()
        page.until(lambda: "labelled" in page["models"].text)
        page.open("labelled")
        page.fill("text", "[1, 2, 4, 3]")
        assert page.send().startswith("a: b\n")


def test_json_is_answered_with_what_it_took(rest: httpx.Client) -> None:
    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    answer = rest.post("/v2/models/adder/infer", json={"inputs": [x]})
    assert answer.json()["outputs"][0]["data"] == [3]
    timing = answer.headers["server-timing"]
    for phase in ("queue;dur=", "compute;dur=", "total;dur=", 'batch;desc="1 rows"'):
        assert phase in timing


def test_generate_answers(rest: httpx.Client) -> None:
    assert rest.post("/v2/models/adder/generate", json={"x": 1}).json()["y"] == 3


def test_who_has_no_key_gets_nothing(server: Server) -> None:
    assert httpx.post(f"{server.url}/v2/models/adder/infer", content=b"{}").status_code == 401
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message("adder"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_metrics_count_what_went_through(server: Server, client: Client) -> None:
    labels = {"model": "adder", "version": "2"}
    client.infer("adder")
    before = scrape(server)
    client.infer("adder")
    after = scrape(server)
    for name, more in (
        ("nv_inference_request_success", 1),
        ("nv_inference_count", 3),
        ("nv_inference_exec_count", 1),
        ("penstock_request_duration_seconds_count", 1),
    ):
        assert after.value(name, **labels) == before.value(name, **labels) + more


def test_a_stream_answers_in_order_and_goes_on_after_an_error(stub: Any) -> None:
    requests = [message("adder", "a"), message("nobody", "b"), message("labelled", "c", 4)]
    answers = list(stub.ModelStreamInfer(iter(requests), metadata=METADATA))
    assert [answer.infer_response.id for answer in answers] == ["a", "b", "c"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert all(answer.infer_response.parameters["triton_final_response"] for answer in answers)


def test_a_full_queue_refuses_and_who_waits_may_leave(stub: Any) -> None:
    # Of two at a time, one waits: it is there until it is cancelled.
    calls = [stub.ModelInfer.future(message("patient"), metadata=METADATA) for _ in range(2)]
    done: SimpleQueue[Any] = SimpleQueue()
    for call in calls:
        call.add_done_callback(done.put)
    refused = done.get(timeout=SECONDS)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Exceeds maximum queue size" in refused.details()
    for call in calls:
        call.cancel()
    assert {call.code() for call in calls} == {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }


def test_the_steps_of_a_sequence_find_its_state(client: Client) -> None:
    x = np.zeros((1, 1), np.float32)
    options: dict[str, Any] = {"sequence_id": 11 + client.is_grpc}
    first = client.infer("steps", x, sequence_start=True, **options).as_numpy("y")
    last = client.infer("steps", x, sequence_end=True, **options).as_numpy("y")
    assert (first[0, 1], last[0, 1]) == (1, 0)
    assert first[0, 4] == last[0, 4] == options["sequence_id"]
    status, said = client.refusal("infer", "steps", x, **options)
    assert status in ("400", "StatusCode.INVALID_ARGUMENT")
    assert "START flag" in said
