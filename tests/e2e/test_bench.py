"""`penstock bench` measures real servers over every protocol, and hides nothing that went wrong."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.bench.command import bench
from tests.e2e.server import ROOT, Server, environment, penstock_server
from tests.sequence_models import adder, adder_config

MODEL: Final = "digits-mlp"
SECONDS: Final = 100


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "penstock", "bench", *map(str, arguments)]


def run(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """A run that ends with that exit code, without a traceback."""
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def measure(folder: Path, *arguments: object, code: int = 0) -> Any:
    """The JSON document of a run."""
    run(*arguments, "--warm-up=0", f"--json={folder / 'result.json'}", code=code)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("protocol", ["rest-binary", "rest-json", "grpc"])
def test_every_protocol_is_measured(server: Server, tmp_path: Path, protocol: str) -> None:
    address = f"grpc://{server.grpc}" if protocol == "grpc" else server.url
    result = measure(
        tmp_path,
        *(address, MODEL, f"--protocol={protocol}", "--batch-size=2"),
        *("--concurrency=1,4", "--requests=60"),
    )

    assert (result["schema"], result["complete"]) == ("penstock.bench/1", True)
    assert result["target"]["protocol"] == protocol
    assert result["target"]["server"]["name"] == "penstock"
    assert result["inputs"]["shapes"] == {"features": [2, 64]}
    assert result["client"]["packages"]["numpy"] == np.__version__
    assert [step["load"]["connections"] for step in result["steps"]] == [1, 4]
    for step in result["steps"]:
        assert (step["answered"], step["failed"]) == (60, 0)
        latency = step["latency_ms"]
        assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
        assert step["throughput"] == pytest.approx(60 / step["seconds"])
        assert step["server_ms"]["requests"] == 60
        assert step["server_ms"]["rows"] == 120
        assert step["server_ms"]["compute_infer"] > 0


def test_an_open_loop_is_shared_by_processes(server: Server, tmp_path: Path) -> None:
    result = measure(
        tmp_path,
        *(server.http, MODEL, "--rate=200", "--arrivals=burst", "--burst-size=4"),
        *("--requests=81", "--processes=2", "--timeout=60s"),
    )
    (step,) = result["steps"]

    assert (step["answered"], step["failed"]) == (81, 0)
    assert step["load"]["arrivals"] == "burst"
    assert len(step["client"]["cpu_share"]) == 2
    # The last of 21 bursts of 4 is due after 20 periods.
    assert step["seconds"] >= 0.4


@pytest.mark.parametrize(
    ("objective", "code", "told"),
    [("p99=100s", 0, "SLO met"), ("p50=1us", 1, "p50=1us missed at 2 connections")],
)
def test_the_exit_code_tells_whether_objectives_are_met(
    server: Server, objective: str, code: int, told: str
) -> None:
    done = run(
        *(server.http, MODEL, "--concurrency=2", "--requests=40", "--warm-up=0"),
        f"--slo={objective}",
        code=code,
    )

    assert told in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((MODEL, "--slo=fast"), "expected p99=10ms"),
        ((MODEL, "--rate=1", "--concurrency=1"), "choose one"),
        ((MODEL, "--arrivals=constant"), "--arrivals is for an open loop"),
        ((MODEL, "--max-in-flight=8", "--concurrency=1"), "--max-in-flight is for an open loop"),
        ((MODEL, "--batch-size=100000"), "takes at most"),
        ((MODEL, "--shape=other:3"), "no input 'other'; it has 'features'"),
        ((MODEL, "--output=other"), "no output 'other'"),
        ((MODEL, "--seed=-1"), "-1 is not in the range x>=0"),
        ((MODEL, "--input-data=missing.npz"), "missing.npz: No such file or directory"),
        (("http://localhost:1", MODEL), "one URL and one MODEL"),
    ],
)
def test_wrong_usage_is_told_and_has_a_code_of_its_own(
    server: Server, arguments: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(bench, [*arguments, f"--url={server.url}"])

    assert (done.exit_code, done.stdout) == (2, "")
    assert told in " ".join(done.stderr.split())


def test_an_unknown_model_is_told_in_the_servers_words(server: Server) -> None:
    done = CliRunner().invoke(bench, [server.http, "nobody"])

    assert done.exit_code == 1
    assert "Request for unknown model: 'nobody' is not found" in done.stderr


def test_a_server_that_is_not_there_is_told() -> None:
    done = CliRunner().invoke(bench, ["127.0.0.1:1", MODEL])

    assert done.exit_code == 1
    assert "http://127.0.0.1:1 cannot be reached" in done.stderr


def test_a_grpc_port_that_is_asked_over_rest_is_told(server: Server) -> None:
    done = CliRunner().invoke(bench, [server.grpc, MODEL])

    assert done.exit_code == 1
    assert "A gRPC port is asked by grpc://HOST:PORT" in done.stderr
    assert done.stderr.rstrip("\n").isprintable()


def test_answers_are_compared_with_what_a_file_expects(server: Server, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((3, 64), np.float32)
    features = {"name": "features", "datatype": "FP32", "shape": [3, 64]}
    document = {
        "inputs": [features | {"data": rows.ravel().tolist()}],
        "outputs": [{"name": "probabilities"}],
    }
    answer = httpx.post(f"{server.url}/v2/models/{MODEL}/infer", json=document).json()
    right = np.array(answer["outputs"][0]["data"], np.float32).reshape(3, 10)
    wrong = right.copy()
    wrong[1] = 0.5
    np.savez(tmp_path / "rows.npz", features=rows, probabilities=wrong)

    result = measure(
        tmp_path,
        *(server.http, MODEL, "--output=probabilities", "--concurrency=1", "--requests=30"),
        f"--input-data={tmp_path / 'rows.npz'}",
    )
    (step,) = result["steps"]

    assert (step["answered"], step["failed"]) == (20, 10)
    (failure,) = step["failures"]
    assert failure["status"] == "wrong answer"
    assert failure["message"] == "output 'probabilities': other values than expected"


def test_ctrl_c_before_anything_is_measured_misses_no_objective() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            command(f"localhost:{silent.getsockname()[1]}", MODEL),
            cwd=ROOT,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(SECONDS)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_ctrl_c_ends_with_what_was_measured(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    before = successes(server)
    process = subprocess.Popen(
        command(server.http, MODEL, "--duration=1h", "--warm-up=0", f"--json={file}"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while successes(server) < before + 20:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted" in output
    result = json.loads(file.read_text())
    assert not result["complete"]
    assert [step["complete"] for step in result["steps"]] == [False]
    assert result["steps"][0]["answered"] > 0


def test_a_full_disk_is_told_by_the_file_and_keeps_the_others(
    server: Server, tmp_path: Path
) -> None:
    done = run(
        *(server.http, MODEL, "--concurrency=1", "--requests=20", "--warm-up=0"),
        *("--json=/dev/full", f"--html={tmp_path / 'page.html'}", "--png=/dev/full"),
        code=1,
    )
    said = "/dev/full: cannot be written: No space left on device"
    assert done.stderr.endswith(f"Error: {said}; {said}\n")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def successes(server: Server) -> int:
    document = httpx.get(f"{server.url}/v2/models/{MODEL}/stats").json()
    return int(document["model_stats"][0]["inference_stats"]["success"]["count"])


class Strange(BaseHTTPRequestHandler):
    """A server with no more than the protocol's core: every other request is refused.

    Or it answers all until it drops every connection, after `dies_after` answers.
    """

    protocol_version = "HTTP/1.1"
    tensor: Final = {"name": "x", "datatype": "FP32", "shape": [2]}
    answered = 0
    dies_after: int | None = None

    def do_GET(self) -> None:
        known: dict[str, Any] = {
            "/v2": {"name": "strange", "version": "1"},
            "/v2/models/m": {"name": "m", "inputs": [self.tensor], "outputs": [self.tensor]},
        }
        found = self.path in known
        self.say(200 if found else 404, known.get(self.path, {"error": "no such thing"}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        kind.answered += 1
        if kind.dies_after is not None and kind.answered > kind.dies_after:
            self.close_connection = True
        elif kind.dies_after is None and kind.answered % 2:
            self.say(503, {"error": "too much"})
        else:
            self.say(200, {"model_name": "m", "outputs": [self.tensor | {"data": [1, 2]}]})

    def say(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def strange_server(lifetime: int | None = None) -> Iterator[str]:
    class Handler(Strange):
        dies_after = lifetime

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        port = running.server_address[1]
        serving = threading.Thread(target=running.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.shutdown()
            serving.join()


class Terse(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A gRPC server that leaves all empty but the model's metadata and its answers."""

    def ServerMetadata(self, *_: Any) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse()

    def ModelMetadata(self, *_: Any) -> Any:  # noqa: N802
        kind = service_pb2.ModelMetadataResponse.TensorMetadata
        x = kind(name="x", datatype="FP32", shape=[-1, 2])
        return service_pb2.ModelMetadataResponse(name="m", inputs=[x], outputs=[x])

    def ModelConfig(self, *_: Any) -> Any:  # noqa: N802
        return service_pb2.ModelConfigResponse()

    def ModelStatistics(self, *_: Any) -> Any:  # noqa: N802
        return service_pb2.ModelStatisticsResponse()

    def ModelInfer(self, request: Any, _: Any) -> Any:  # noqa: N802
        answer = service_pb2.ModelInferResponse(raw_output_contents=request.raw_input_contents)
        answer.outputs.add(name="x", datatype="FP32", shape=request.inputs[0].shape)
        return answer


def test_of_a_server_that_says_little_the_metadata_are_enough(tmp_path: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Terse(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        result = measure(
            tmp_path,
            *(f"grpc://127.0.0.1:{port}", "m", "--concurrency=1", "--requests=20"),
            "--batch-size=3",
        )
    finally:
        server.stop(None).wait()
    (step,) = result["steps"]

    assert result["inputs"]["shapes"] == {"x": [3, 2]}
    assert (step["answered"], step["failed"], step["server_ms"]) == (20, 0, None)


def test_refusals_are_counted_by_status_and_message(tmp_path: Path) -> None:
    with strange_server() as url:
        result = measure(
            tmp_path,
            *(url, "m", "--concurrency=1", "--requests=40", "--slo=errors=10%"),
            code=1,
        )
    (step,) = result["steps"]

    assert (step["answered"], step["failed"], step["error_share"]) == (20, 20, 0.5)
    assert step["failures"] == [{"status": "HTTP 503", "message": "too much", "count": 20}]
    assert step["server_ms"] is None
    assert not result["passed"]


def test_of_a_server_that_never_answers_there_is_a_report_and_no_picture(tmp_path: Path) -> None:
    with strange_server(lifetime=0) as url:
        done = run(
            *(url, "m", "--concurrency=1", "--requests=3", "--warm-up=0"),
            f"--png={tmp_path / 'curve.png'}",
            code=1,
        )

    assert "no picture is written: nothing was answered" in done.stderr
    assert "[1/1] 1 connection: 0.0/s, p50 -, p99 -, 100.0 % errors" in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_server_that_goes_away_is_reported(tmp_path: Path) -> None:
    with strange_server(lifetime=50) as url:
        result = measure(tmp_path, url, "m", "--concurrency=1", "--requests=55")
    (step,) = result["steps"]

    assert (step["answered"], step["failed"]) == (50, 5)
    assert step["failures"] == [
        {"status": "connection", "message": "closed before the answer", "count": 5}
    ]


def test_a_browser_shows_the_page_without_a_network(
    browser: WebDriver, server: Server, tmp_path: Path
) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "curve.png"
    run(
        *(server.http, MODEL, "--rate=50,100", "--requests=40", "--warm-up=0", "--slo=p99=60s"),
        *(f"--html={page}", f"--png={picture}"),
    )
    browser.get(page.as_uri())
    text = browser.find_element(By.TAG_NAME, "main").text

    assert "Latency against throughput" in text
    assert "SLO met: p99=60s, errors=0%" in text
    assert "100/s" in text
    charts = browser.find_elements(By.TAG_NAME, "svg")
    assert len(charts) >= 2
    assert all(chart.size["width"] > 500 and chart.size["height"] > 200 for chart in charts)
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert log == []
    assert "http://" not in page.read_text().replace("http://www.w3.org/2000/svg", "").replace(
        server.url, ""
    )
    with Image.open(picture) as image:
        assert image.width > 1000
        assert len(image.getcolors(1 << 24) or ()) > 10


@pytest.mark.parametrize("protocol", ["rest-binary", "rest-json", "grpc"])
def test_a_model_of_sequences_is_asked_in_sequences(
    sequential: Server, tmp_path: Path, protocol: str
) -> None:
    address = f"grpc://{sequential.grpc}" if protocol == "grpc" else sequential.url
    result = measure(
        tmp_path,
        *(address, "adder", f"--protocol={protocol}", "--sequence-length=5"),
        *("--concurrency=2", "--requests=50"),
    )
    assert (result["steps"][0]["answered"], result["steps"][0]["failed"]) == (50, 0)
    assert result["inputs"]["data"] == "random, in sequences of 5"


def test_a_model_of_sequences_is_known_by_its_configuration(
    sequential: Server, tmp_path: Path
) -> None:
    result = measure(tmp_path, sequential.http, "adder", "--rate=200", "--requests=50")
    assert (result["steps"][0]["answered"], result["steps"][0]["failed"]) == (50, 0)
    assert result["inputs"]["data"] == "random, in sequences of 20"


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model that takes nothing but sequences."""
    repository = tmp_path_factory.mktemp("sequences")
    (repository / "adder/1").mkdir(parents=True)
    (repository / "adder/1/model.onnx").write_bytes(adder().SerializeToString())
    (repository / "adder/config.pbtxt").write_text(adder_config())
    with penstock_server(repository=repository) as running:
        yield running
