"""From the first port to the exit code: live, ready, draining, and nothing accepted gets lost."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.types import Array
from tests.e2e.clients import Client, connect, tensor
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import pending
from tests.e2e.server import (
    READY,
    ROOT,
    START_SECONDS,
    STOP_SECONDS,
    STOPPING,
    Server,
    command,
    environment,
    penstock_server,
    starting_server,
)

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
MAX_ROWS: Final = 8
PLUGS: Final = 2
REFUSALS: Final = ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED")
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def loading_server(repository: Path, *arguments: str) -> Iterator[tuple[Server, threading.Event]]:
    """A server that has one model and loads another one until the event is set.

    The label file of the second is a pipe, whose reader waits for a writer.
    """
    add_identity(repository, "a-quick-one")
    folder = add_identity(repository, "b-slow-one", output='label_filename: "labels.txt"')
    pipe = folder / "labels.txt"
    os.mkfifo(pipe)
    reading, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("w") as labels:
            reading.set()
            go_on.wait()
            labels.write("yes\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with starting_server(*arguments, repository=repository) as server:
            try:
                assert reading.wait(START_SECONDS)
                server.wait_for("loaded a-quick-one")
                yield server, go_on
            finally:
                go_on.set()
    finally:
        go_on.set()
        # Where the server never came to read, this lets the writer go on.
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join()


async def ask(client: Client, model: str = "echo", value: float = 1.0) -> float:
    """The answer of an identity model to one number."""
    result = await client.infer(model, {"x": np.array([[value]], np.float32)})
    return float(result.as_numpy("y")[0, 0])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_the_server_is_live_before_it_is_ready(tmp_path: Path, protocol: str) -> None:
    with loading_server(tmp_path) as (server, go_on):
        async with connect(protocol, server) as client:
            assert await client.call("is_server_live") is True
            assert await client.call("is_server_ready") is False
            assert await client.call("is_model_ready", "a-quick-one") is True
            assert await client.call("is_model_ready", "b-slow-one") is False
            with pytest.raises(InferenceServerException, match="the server is loading models"):
                await ask(client, "b-slow-one")
            async with httpx.AsyncClient(base_url=server.url) as rest:
                refused = await rest.post("/v2/models/b-slow-one/infer", content=b"{}")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            go_on.set()
            server.wait_for(READY)
            assert await client.call("is_server_ready") is True
            assert await client.call("is_model_ready", "b-slow-one") is True
            assert await ask(client, "b-slow-one", 7) == 7
        assert server.stop() == 0


def test_health_is_told_by_a_body_too_as_the_protocol_has_it(server: Server) -> None:
    told = {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/digits-mlp/ready": {"name": "digits-mlp", "ready": True},
        "/v2/models/digits-mlp/versions/1/ready": {"name": "digits-mlp", "ready": True},
    }
    with httpx.Client(base_url=server.url) as client:
        for path, document in told.items():
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (200, document)
            head = client.head(path)
            assert (head.headers["content-length"], head.content) == (str(len(answer.content)), b"")


def test_a_watcher_is_told_of_every_change_until_the_stop(tmp_path: Path) -> None:
    with loading_server(tmp_path) as (server, go_on), grpc.insecure_channel(server.grpc) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == NOT_SERVING
        go_on.set()
        assert next(watch).status == SERVING
        # Far less than the 30 seconds that calls in flight may take: a watch does not count.
        assert server.stop() == 0
        assert [each.status for each in watch] == [NOT_SERVING]


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_grpcs_health_protocol_knows_the_server_and_its_service(
    server: Server, service: str
) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_signal_while_models_load_stops_the_server_too(tmp_path: Path) -> None:
    with loading_server(tmp_path) as (server, go_on):
        server.send(signal.SIGTERM)
        server.wait_for(STOPPING)
        go_on.set()
        assert server.wait() == 0
        assert "Traceback" not in str(server)
        assert not server.output


@pytest.mark.parametrize("workers", [0, 1])
def test_a_model_that_takes_its_time_to_load_holds_up_no_stop(tmp_path: Path, workers: int) -> None:
    arguments = ("--exit-timeout-secs=1", f"--workers={workers}")
    with loading_server(tmp_path, *arguments) as (server, _):
        assert server.stop() == 0
        assert "models still run after --exit-timeout-secs=1" in str(server)
        assert "Traceback" not in str(server)


# Breaks down once a model's label file is being read, of which nothing ever comes.
LOST = """
import sys, threading
import penstock
from serving import breakdown

pipe = sys.argv.pop()

def lose():
    global pipe
    pipe = open(pipe, "w")
    breakdown.tell("GPU 0 is lost")

threading.Thread(target=lose).start()
penstock.main()
"""


def test_what_breaks_down_ends_the_process_though_a_model_still_loads(tmp_path: Path) -> None:
    folder = add_identity(tmp_path, "slow", output='label_filename: "labels.txt"')
    pipe = folder / "labels.txt"
    os.mkfifo(pipe)
    arguments = command("--exit-timeout-secs=1", repositories=(tmp_path,))
    ran = subprocess.run(
        [sys.executable, "-c", LOST, *arguments, pipe],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert ran.returncode == 1
    assert ran.stderr.endswith("Error: GPU 0 is lost\n")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_without_standard_streams_starts_and_stops_as_any(
    tmp_path: Path, workers: int
) -> None:
    add_identity(tmp_path / "models")
    log = tmp_path / "log"
    flags = (f"--workers={workers}", f"--log-file={log}", "--log-format=json")
    process = subprocess.Popen(
        [
            *("/bin/sh", "-c", 'exec "$0" -c "import penstock; penstock.main()" "$@" <&- >&- 2>&-'),
            *(sys.executable, *command(*flags, repositories=[tmp_path / "models"])),
        ],
        cwd=ROOT,
        env=environment(),
    )
    try:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            if log.exists() and '"message": "ready: ' in log.read_text():
                break
            time.sleep(0.1)
    finally:
        process.terminate()
        code = process.wait(STOP_SECONDS)
    assert code == 0
    assert log.read_text().splitlines()[-1].endswith('"message": "stopped"}')


def send(server: Server, protocol: str, rows: int, value: float) -> Array:
    """What an identity model answers to `rows` rows of a number; blocks until then."""
    is_http = protocol == "http"
    module = tritonclient.http if is_http else tritonclient.grpc
    item = tensor(module, "x", np.full((rows, 1), value, np.float32))
    address = server.http if is_http else server.grpc
    with module.InferenceServerClient(address) as client:
        answer: Array = client.infer("echo", [item]).as_numpy("y")
        return answer


def fill(server: Server, pool: ThreadPoolExecutor, count: int) -> list[Future[Array]]:
    """`count` requests of each protocol that the server has accepted and not answered."""
    # Whole batches, which cannot be merged: while they run, everything behind them waits.
    plugs = [pool.submit(send, server, "http", MAX_ROWS, -1.0) for _ in range(PLUGS)]
    until_behind(plugs, server, 0)
    calls = [
        pool.submit(send, server, protocol, 1, value)
        for value in range(count)
        for protocol in ("http", "grpc")
    ]
    until_behind(plugs, server, len(calls))
    assert not any(call.done() for call in calls)
    return calls


def until_behind(plugs: Sequence[Future[Array]], server: Server, count: int) -> None:
    """Until so many requests wait behind the plugs, of which one runs and the others wait."""
    while left := sum(not plug.done() for plug in plugs):
        if pending(server, "echo") >= left - 1 + count:
            return
    raise AssertionError("the plugs have run before all that was to wait behind them was there")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A repository with a model of which each batch takes a while."""
    add_identity(tmp_path, delay_ms=1000, max_batch_size=MAX_ROWS, more="dynamic_batching { }")
    return tmp_path


@pytest.mark.parametrize("number", SIGNALS)
def test_whatever_was_accepted_before_the_signal_is_answered(
    slow: Path, number: signal.Signals
) -> None:
    with penstock_server(repository=slow) as server, ThreadPoolExecutor(64) as pool:
        calls = fill(server, pool, 8)
        server.send(number)
        assert server.wait() == 0
        for index, call in enumerate(calls):
            np.testing.assert_array_equal(call.result(), [[index // 2]])


def test_a_model_that_does_not_end_holds_up_no_stop(tmp_path: Path) -> None:
    (tmp_path / "r" / "1").mkdir(parents=True)
    (tmp_path / "r" / "config.pbtxt").write_text(
        'backend: "repeat" model_transaction_policy { decoupled: true }'
    )
    request = {"IN": [1, 2], "DELAY": [0, 3_600_000], "WAIT": [0]}
    with penstock_server("--exit-timeout-secs=1", repository=tmp_path) as server:
        url = f"{server.url}/v2/models/r/generate_stream"
        with httpx.stream("POST", url, json=request, timeout=START_SECONDS) as response:
            assert '"OUT":1' in next(response.iter_lines())
        assert server.stop() == 0
        assert "models still run after --exit-timeout-secs=1" in str(server)
        assert "Traceback" not in str(server)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, number: signal.Signals) -> None:
    add_identity(tmp_path, delay_ms=1_000)
    with penstock_server(repository=tmp_path) as server, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(send, server, "grpc", 1, 1.0) for _ in range(2)]
        while pending(server, "echo") < 1:
            assert not any(call.done() for call in calls)
        server.send(number)
        server.wait_for(STOPPING)
        server.send(number)
        assert server.wait() == -number
        for call in calls:
            with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
                call.result()


async def test_during_the_grace_the_server_is_not_ready_and_answers_on(tmp_path: Path) -> None:
    add_identity(tmp_path)
    with penstock_server("--exit-grace-secs=2", repository=tmp_path) as server:
        server.send(signal.SIGTERM)
        server.wait_for(STOPPING)
        for protocol in ("http", "grpc"):
            # New connections, as those of clients that have not noticed yet.
            async with connect(protocol, server) as client:
                assert await client.call("is_server_live") is True
                assert await client.call("is_server_ready") is False
                assert await client.call("is_model_ready", "echo") is False
                assert await ask(client, value=5) == 5
        assert server.process.poll() is None
        assert server.wait() == 0


@pytest.mark.parametrize("path", ["/v2/models/echo", "/v2/models/echo/infer"])
def test_a_connection_ends_with_its_next_answer_once_the_server_is_to_stop(
    tmp_path: Path, path: str
) -> None:
    add_identity(tmp_path)
    infer = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [5]}]}
    with (
        penstock_server("--exit-grace-secs=2", repository=tmp_path) as server,
        httpx.Client(base_url=server.url, trust_env=False) as kept,
    ):

        def asked() -> httpx.Response:
            return kept.post(path, json=infer) if path.endswith("infer") else kept.get(path)

        assert "connection" not in asked().headers
        server.send(signal.SIGTERM)
        server.wait_for(STOPPING)
        answer = asked()
        # Else its next request might meet the end of the connection, and be lost.
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert server.wait() == 0


class Load:
    """Callers of both protocols who ask one thing after the other until the server is gone."""

    def __init__(self) -> None:
        self.answered = {"http.aio": 0, "grpc.aio": 0}
        self.under_way = asyncio.Event()

    async def call(self, server: Server, protocol: str) -> None:
        async with connect(protocol, server) as client:
            while True:
                value = float(self.answered[protocol])
                try:
                    answer = await ask(client, value=value)
                except aiohttp.ClientConnectionError:
                    return
                except InferenceServerException as error:
                    # gRPC refuses what comes after the end, and cancels what it had received
                    # but not handed on yet.
                    assert error.status() in REFUSALS, error  # noqa: PT017
                    return
                assert answer == value
                self.answered[protocol] += 1
                if min(self.answered.values()) > 200:
                    self.under_way.set()


async def test_under_load_every_request_that_was_taken_up_reaches_its_client(
    tmp_path: Path,
) -> None:
    add_identity(tmp_path, max_batch_size=8, delay_ms=1, more="dynamic_batching { }")
    load = Load()
    with penstock_server("--log-verbose=1", "--log-format=json", repository=tmp_path) as server:
        async with asyncio.TaskGroup() as group:
            for protocol in [*load.answered] * 16:
                group.create_task(load.call(server, protocol))
            await load.under_way.wait()
            server.send(signal.SIGTERM)
        assert server.wait() == 0
        lines = [json.loads(line) for line in server.log]
    infer = ("POST /v2/models/echo/infer", "ModelInfer")
    statuses = [line["status"] for line in lines if line.get("call") in infer]
    # As many as were sent off have arrived, and there was no other outcome.
    assert statuses.count(200) == load.answered["http.aio"]
    assert statuses.count("OK") == load.answered["grpc.aio"]
    assert len(statuses) == sum(load.answered.values())


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_server_whose_announcement_cannot_be_written_goes_on(
    tmp_path: Path, workers: str
) -> None:
    add_identity(tmp_path)
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "penstock"),
                *command(f"--workers={workers}", repositories=(tmp_path,)),
            ],
            cwd=ROOT,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        told = next((line for line in process.stderr if "standard output" in line), "")
        assert told.endswith("standard output cannot be written: No space left on device\n")
        process.terminate()
        process.communicate()
    assert process.returncode == 0
