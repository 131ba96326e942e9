"""What operators see: the metrics that Triton's dashboards query, and the log."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests import adders
from tests.e2e.clients import CLIENTS, Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import PLAIN_TEXT, scrape
from tests.e2e.server import Server, failed_start, penstock_server

# A model for each test that counts, in one server.
MODELS: Final = ("untouched", "counted", "measured", "refused")
COUNTERS: Final = (
    "nv_inference_request_success",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
)
REASONS: Final = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
HISTOGRAMS: Final = (
    "penstock_request_duration_seconds",
    "penstock_queue_duration_seconds",
    "penstock_compute_duration_seconds",
    "penstock_batch_rows",
)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of models whose executions take at least 2 ms each."""
    repository = tmp_path_factory.mktemp("observability")
    for model in MODELS:
        add_identity(repository, model, max_batch_size=4, delay_ms=2)
    with penstock_server(repository=repository) as server:
        yield server


def labels_of(model: str) -> dict[str, str]:
    return {"model": model, "version": "1"}


def text_of(server: Server) -> str:
    answer = httpx.get(f"http://{server.metrics}/metrics")
    assert answer.headers["content-type"] == PLAIN_TEXT
    return answer.text


def samples(text: str) -> dict[str, float]:
    """The samples as they stand in the text, by name and labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_every_series_exists_at_zero_from_the_load_on_under_tritons_exact_name(
    echo: Server,
) -> None:
    text = text_of(echo)
    found = samples(text)
    series = '{model="untouched",version="1"}'
    for name in COUNTERS:
        assert found[name + series] == 0
        assert f"\n# TYPE {name} counter\n" in f"\n{text}"
        assert re.search(rf"^# HELP {name} \S", text, re.MULTILINE)
    for reason in REASONS:
        labels = f'{{model="untouched",reason="{reason}",version="1"}}'
        assert found[f"nv_inference_request_failure{labels}"] == 0
    assert "\n# TYPE nv_inference_request_failure counter\n" in text
    assert found["nv_inference_pending_request_count" + series] == 0
    assert "\n# TYPE nv_inference_pending_request_count gauge\n" in text
    assert found["nv_model_load_duration_secs" + series] > 0
    # Triton has no other series of these families, nor has its name an ending.
    ours = [name for name in found if name.startswith("nv_") and '"untouched"' in name]
    assert len(ours) == len(COUNTERS) + len(REASONS) + 2
    assert not re.search(r"\bnv_\w+_total\b", text)


def test_the_process_tells_of_itself(echo: Server) -> None:
    metrics = scrape(echo)
    assert metrics.value("process_resident_memory_bytes") > 0
    assert metrics.value("process_cpu_seconds_total") > 0


async def infer(client: Client, model: str, rows: int) -> None:
    await client.infer(model, {"x": np.ones((rows, 1), np.float32)})


async def test_counters_only_grow_and_by_what_was_done(echo: Server) -> None:
    async with connect("grpc", echo) as client:
        before = samples(text_of(echo))
        await infer(client, "counted", 1)
        between = samples(text_of(echo))
        await infer(client, "counted", 3)
        after = samples(text_of(echo))
    series = '{model="counted",version="1"}'
    for name in COUNTERS:
        assert before[name + series] <= between[name + series] <= after[name + series]
    for name, steps in {
        "nv_inference_request_success": [0, 1, 2],
        "nv_inference_count": [0, 1, 4],
        "nv_inference_exec_count": [0, 1, 2],
        "penstock_batch_rows_sum": [0, 1, 4],
        "penstock_request_duration_seconds_count": [0, 1, 2],
    }.items():
        assert [each[name + series] for each in (before, between, after)] == steps
    # Microseconds: each execution takes 2 ms at least, and a request no less than its execution.
    computed = after["nv_inference_compute_infer_duration_us" + series]
    assert 4000 <= computed < 60e6
    assert computed <= after["nv_inference_request_duration_us" + series]


async def test_histograms_are_cumulative_and_agree_with_their_counts(echo: Server) -> None:
    async with connect("http", echo) as client:
        for rows in (1, 2, 4, 4):
            await infer(client, "measured", rows)
    metrics = scrape(echo)
    labels = labels_of("measured")
    for name in HISTOGRAMS:
        assert metrics.families[name].type == "histogram"
        buckets = metrics.buckets(name, **labels)
        bounds = [float(bound) for bound in buckets]
        counts = list(buckets.values())
        assert bounds == sorted(bounds)
        assert bounds[-1] == float("inf")
        assert counts == sorted(counts)
        assert counts[-1] == metrics.value(f"{name}_count", **labels) == 4
    rows_up_to = metrics.buckets("penstock_batch_rows", **labels)
    assert [rows_up_to[bound] for bound in ("1", "2", "4", "8")] == [1, 2, 4, 4]
    # 2 ms in seconds, wherever the time is measured.
    for name in ("penstock_compute_duration_seconds", "penstock_request_duration_seconds"):
        assert 0.008 <= metrics.value(f"{name}_sum", **labels) < 60
        assert metrics.buckets(name, **labels)["0.001"] == 0


async def test_failures_are_counted_by_their_reason(echo: Server) -> None:
    bad = {"inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 1], "data": [0]}]}
    async with httpx.AsyncClient(base_url=echo.url) as rest:
        for _ in range(3):
            assert (await rest.post("/v2/models/refused/infer", json=bad)).status_code == 400
    metrics = scrape(echo)
    labels = labels_of("refused")
    failed = {
        reason: metrics.value("nv_inference_request_failure", reason=reason, **labels)
        for reason in REASONS
    }
    assert failed == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 0, "OTHER": 3}
    assert metrics.value("nv_inference_request_success", **labels) == 0


def test_the_metrics_port_answers_nothing_else(echo: Server) -> None:
    assert httpx.get(f"http://{echo.metrics}/v2").status_code == 404
    assert httpx.post(f"http://{echo.metrics}/metrics").status_code == 405


async def test_each_line_of_the_log_is_an_object_that_tells_of_the_request(tmp_path: Path) -> None:
    add_identity(tmp_path, max_batch_size=4, delay_ms=2)
    with penstock_server("--log-format=json", "--log-verbose=1", repository=tmp_path) as server:
        for name in CLIENTS:
            async with connect(name, server) as client:
                await infer(client, "echo", 1)
                await client.call("is_server_live")
                await client.call("is_model_ready", "nobody")
                with pytest.raises(InferenceServerException):
                    await infer(client, "nobody", 1)
        async with httpx.AsyncClient(base_url=server.url) as rest:
            await rest.get("/v2/models/nobody")
            await rest.get("/no/such/route")
        assert server.stop() == 0
    assert server.output == []  # which is collected with the log
    lines = [json.loads(line) for line in server.log]
    assert "ready: echo (version 1)" in [line["message"] for line in lines]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    requests = [line for line in lines if line["logger"] == "penstock.access"]
    for line in requests:
        assert line["duration_ms"] >= (2 if line["model"] == "echo" else 0)
        assert line["message"].startswith(f"{line['protocol']} {line['call']} {line['status']} in ")
        assert line["message"].endswith(line["error"])
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d+", line["peer"])
        assert f" from {line['peer']}" in line["message"]
    seen = [(line["protocol"], line["call"], line["model"], line["status"]) for line in requests]
    http = [
        ("http", "POST /v2/models/echo/infer", "echo", 200),
        ("http", "GET /v2/health/live", "", 200),
        ("http", "GET /v2/models/nobody/ready", "nobody", 400),
        ("http", "POST /v2/models/nobody/infer", "nobody", 404),
    ]
    grpc = [
        ("grpc", "ModelInfer", "echo", "OK"),
        ("grpc", "ServerLive", "", "OK"),
        ("grpc", "ModelReady", "nobody", "OK"),
        ("grpc", "ModelInfer", "nobody", "NOT_FOUND"),
    ]
    assert seen == [
        *(http + grpc) * 2,
        ("http", "GET /v2/models/nobody", "nobody", 404),
        ("http", "GET /no/such/route", "", 404),
    ]
    errors = {(line["protocol"], line["status"], line["error"]) for line in requests}
    unknown = "Request for unknown model: 'nobody' is not found"
    assert {
        ("http", 404, unknown),
        ("grpc", "NOT_FOUND", unknown),
        ("http", 200, ""),
        ("grpc", "OK", ""),
    } <= errors


def test_why_a_start_failed_is_such_an_object_too(tmp_path: Path) -> None:
    broken = adders.add(tmp_path, "broken", 1)
    (broken / "1" / "model.onnx").write_bytes(adders.BROKEN)
    lines = map(json.loads, failed_start("--log-format=json", repository=tmp_path).splitlines())
    [told] = [line["message"] for line in lines if line["level"] == "ERROR"]
    assert told.startswith("failed to load 'broken': ")


def test_without_the_flag_requests_are_not_in_the_log(tmp_path: Path) -> None:
    add_identity(tmp_path)
    with penstock_server(repository=tmp_path) as server:
        assert httpx.get(f"{server.url}/v2").status_code == 200
        assert httpx.get(f"{server.url}/v2/models/nobody").status_code == 404
        assert server.stop() == 0
    for line in server.log:
        assert re.match(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) +penstock\.\w+: ", line
        )
        assert "penstock.access" not in line
        assert "nobody" not in line
