"""Traces of a running server: the settings through the official clients, the files, the spans."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from tests.e2e.clients import CLIENTS, Client, connect, tensor
from tests.e2e.repositories import add_identity
from tests.e2e.server import Server, failed_start, penstock_server

NUMBER = np.ones((1, 1), np.float32)
DEFAULTS = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
CORE = [
    "REQUEST_START",
    "QUEUE_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "INFER_RESPONSE_COMPLETE",
    "REQUEST_END",
]
HTTP = ["HTTP_RECV_START", "HTTP_RECV_END"], ["HTTP_SEND_START", "HTTP_SEND_END"]
GRPC = ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"], ["GRPC_SEND_START", "GRPC_SEND_END"]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_identity(folder)
    add_identity(folder, "other")
    return folder


def values(client: Client, answer: Any) -> Any:
    if not client.is_grpc:
        return answer
    lists = {name: setting["value"] for name, setting in answer["settings"].items()}
    # Those that are numbers came as texts, before the harness read them as numbers.
    texts = {name: [str(value) for value in found] for name, found in lists.items()}
    return {name: found if name == "trace_level" else found[0] for name, found in texts.items()}


@pytest.mark.parametrize("name", CLIENTS)
async def test_settings_change_for_the_server_and_for_a_model(
    repository: Path, tmp_path: Path, name: str
) -> None:
    file = str(tmp_path / "trace.json")
    with penstock_server(f"--trace-config=triton,file={file}", repository=repository) as server:
        async with connect(name, server) as client:
            begin = DEFAULTS | {"trace_file": file}
            assert values(client, await client.call("get_trace_settings")) == begin
            changed = await client.call("update_trace_settings", settings={"trace_rate": "7"})
            assert values(client, changed) == begin | {"trace_rate": "7"}
            levels = {"trace_level": ["TIMESTAMPS", "TENSORS"]}
            changed = await client.call("update_trace_settings", "echo", settings=levels)
            assert values(client, changed) == begin | {"trace_rate": "7"} | levels
            other = await client.call("get_trace_settings", "other")
            assert values(client, other) == begin | {"trace_rate": "7"}
            taken_back = {"trace_level": None, "trace_rate": None}
            await client.call("update_trace_settings", "echo", settings=taken_back)
            changed = await client.call("update_trace_settings", settings={"trace_rate": None})
            assert values(client, changed) == begin
            echo = await client.call("get_trace_settings", "echo")
            assert values(client, echo) == begin


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("nobody", {}, "Request for unknown model : nobody"),
    ("", {"trace_level": ["TIMESTAMPS"]}, "trace file name is not given"),
    ("", {"trace_file": "/tmp/x"}, "trace file location can not be updated"),
    ("digits-mlp", {"trace_rate": "often"}, "Unable to parse 'trace_rate', got: often"),
    ("", {"trace_colour": "red"}, "trace_colour: no trace setting that can change"),
]


@pytest.mark.parametrize(("model", "settings", "message"), FAULTS)
async def test_what_cannot_be_is_refused(
    client: Client, model: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await client.call("update_trace_settings", model, settings=settings)
    assert message in raised.value.message()
    assert values(client, await client.call("get_trace_settings")) == DEFAULTS


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[]", b'{"trace_rate": 1}', b'{"trace_level": [1]}', b'{"trace_rate": {}}']
)
def test_what_is_no_document_of_settings_is_refused(rest: httpx.Client, body: bytes) -> None:
    assert rest.post("/v2/trace/setting", content=body).status_code == 400


async def test_the_server_says_that_it_can(client: Client) -> None:
    assert "trace" in (await client.call("get_server_metadata"))["extensions"]


async def ask_in_every_way(server: Server) -> None:
    """One request over REST, over gRPC, on a stream, and as generate."""
    for name in ("http.aio", "grpc.aio"):
        async with connect(name, server) as client:
            await client.infer("echo", {"x": NUMBER}, request_id=name)

    async def requests() -> Any:
        inputs = [tensor(tritonclient.grpc, "x", NUMBER)]
        yield {"model_name": "echo", "inputs": inputs, "request_id": "stream"}

    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
        assert [error async for _, error in client.stream_infer(requests())] == [None]
    async with httpx.AsyncClient(base_url=server.url) as rest:
        await rest.post("/v2/models/echo/generate", json={"x": 1.0, "id": "generate"})


async def test_the_file_tells_of_every_request_in_tritons_terms(
    repository: Path, tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    options = (f"triton,file={file}", "level=TIMESTAMPS", "rate=1")
    with penstock_server(
        *(f"--trace-config={option}" for option in options), repository=repository
    ) as server:
        await ask_in_every_way(server)
        assert server.stop() == 0
    entries = json.loads(file.read_text())
    found: dict[str, list[str]] = {}
    requests = {entry["id"]: entry for entry in entries if "model_name" in entry}
    for entry in entries:
        for event in entry.get("timestamps", ()):
            found.setdefault(requests[entry["id"]]["request_id"], []).append(event["name"])
    assert {(one["model_name"], one["model_version"]) for one in requests.values()} == {("echo", 1)}
    http, grpc = ([*begun, *CORE, *ended] for begun, ended in (HTTP, GRPC))
    assert found == {
        "http.aio": http,
        "generate": http,
        "grpc.aio": grpc,
        "stream": grpc,
    }


REFUSED = {
    "any version": ("echo", "", -1),
    "a version": ("echo", "1", 1),
    "nobody": ("nobody", "", -1),
}


async def test_what_was_refused_is_told_as_wholly_as_tritons_reader_of_traces_wants(
    repository: Path, tmp_path: Path
) -> None:
    """It looks for the version of each, and for both ends of receiving and of sending."""
    file = tmp_path / "trace.json"
    options = (f"triton,file={file}", "level=TIMESTAMPS", "rate=1")
    wide = np.ones((1, 2), np.float32)
    with penstock_server(
        *(f"--trace-config={option}" for option in options), repository=repository
    ) as server:
        for name in ("http.aio", "grpc.aio"):
            async with connect(name, server) as client:
                for what, (model, version, _) in REFUSED.items():
                    with pytest.raises(InferenceServerException):
                        await client.infer(
                            model, {"x": wide}, model_version=version, request_id=f"{name} {what}"
                        )
        assert server.stop() == 0
    events: dict[int, list[str]] = {}
    told: dict[str, tuple[int, list[str]]] = {}
    for entry in json.loads(file.read_text()):
        if "model_name" in entry:
            told[entry["request_id"]] = entry["model_version"], events.setdefault(entry["id"], [])
        events[entry["id"]] += [event["name"] for event in entry.get("timestamps", ())]
    assert told == {
        f"{name} {what}": (version, [*begun, "REQUEST_START", "REQUEST_END", *ended])
        for name, (begun, ended) in (("http.aio", HTTP), ("grpc.aio", GRPC))
        for what, (_, _, version) in REFUSED.items()
    }


class Collector(ThreadingHTTPServer):
    """Takes what OpenTelemetry's exporter sends."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Receiver)

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        [resource] = {
            tuple((one.key, one.value.string_value) for one in each.resource.attributes)
            for request in self.requests
            for each in request.resource_spans
        }
        return dict(resource)


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # the library's name
        service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        content = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        assert isinstance(self.server, Collector)
        self.server.requests.append(service.ExportTraceServiceRequest.FromString(content))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


async def test_spans_lead_from_the_client_to_the_execution(repository: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with collecting() as collector:
        options = (
            "mode=opentelemetry",
            f"opentelemetry,url=http://127.0.0.1:{collector.server_port}/v1/traces",
            "opentelemetry,resource=service.name=scoring",
            "level=TIMESTAMPS",
            "rate=0",
        )
        with penstock_server(
            *(f"--trace-config={option}" for option in options), repository=repository
        ) as server:
            await ask_in_every_way(server)
            for name in ("http.aio", "grpc.aio"):
                async with connect(name, server) as client:
                    headers = {"traceparent": PARENT}
                    await client.infer("echo", {"x": NUMBER}, request_id=name, headers=headers)
            assert server.stop() == 0
    _, trace, parent, _ = PARENT.split("-")
    assert {span.trace_id.hex() for span in collector.spans} == {trace}
    assert collector.resource()["service.name"] == "scoring"
    outer = [span for span in collector.spans if span.parent_span_id.hex() == parent]
    assert [span.name for span in outer] == ["InferRequest", "InferRequest"]
    for root in outer:
        check_spans(collector.spans, root)


def check_spans(spans: list[Any], root: Any) -> None:
    [model] = [span for span in spans if span.parent_span_id == root.span_id]
    [compute] = [span for span in spans if span.parent_span_id == model.span_id]
    assert (model.name, compute.name) == ("echo", "compute")
    steps = [root, model, compute]
    starts = [span.start_time_unix_nano for span in steps]
    ends = [span.end_time_unix_nano for span in steps]
    assert starts == sorted(starts)
    assert ends == sorted(ends, reverse=True)
    attributes = {one.key: one.value for one in root.attributes}
    assert attributes["triton.model_name"].string_value == "echo"
    assert attributes["triton.model_version"].int_value == 1
    assert attributes["triton.trace_request_id"].string_value in CLIENTS
    assert [event.name for event in compute.events] == ["COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"]


def test_without_the_extra_the_server_says_what_to_install(repository: Path) -> None:
    try:
        import opentelemetry.sdk  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        said = failed_start("--trace-config=mode=opentelemetry", repository=repository)
        assert "pip install 'penstock[otel]'" in said
    else:
        pytest.skip(f"{opentelemetry.sdk.__name__} is installed")
