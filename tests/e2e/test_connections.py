"""However many connections there are, and whatever they do not send, others are served."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.e2e.clients import CLIENTS, connect
from tests.e2e.repositories import add_identity
from tests.e2e.server import READY, Server, command, environment, penstock_server

LIMIT: Final = 4
HEAD: Final = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_identity(folder)
    add_identity(folder, "slow", delay_ms=3000)
    add_identity(folder, "any", dims="-1")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with penstock_server(f"--max-connections={LIMIT}", repository=repository) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(repository: Path) -> Iterator[Server]:
    with penstock_server("--connection-idle-secs=1", repository=repository) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(repository: Path) -> Iterator[Server]:
    flags = ("--connection-idle-secs=1", "--max-connections=1")
    with penstock_server(*flags, repository=repository) as running:
        yield running


@contextmanager
def held(address: str, *sent: bytes) -> Iterator[list[socket.socket]]:
    """A connection for each of these beginnings, which nothing follows."""
    host, port = address.split(":")
    with ExitStack() as stack:
        open_ = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in sent]
        for each, content in zip(open_, sent, strict=True):
            each.settimeout(30)
            each.sendall(content)
        yield open_


def until_closed(connection: socket.socket) -> bytes:
    """All that still comes, up to the end or the reset."""
    received = b""
    with suppress(ConnectionError):
        while content := connection.recv(65536):
            received += content
    return received


@pytest.mark.parametrize("beginning", [b"", HEAD, b"GET"], ids=["nothing", "half a head", "a word"])
def test_idle_connections_make_room_for_new_ones(server: Server, beginning: bytes) -> None:
    with held(server.http, *[beginning] * LIMIT) as idle:
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        # The one that was idle for longest.
        assert until_closed(idle[0]) == b""


def test_where_the_system_allows_few_files_idle_connections_make_room_as_well(
    repository: Path,
) -> None:
    files = 160
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-m", "penstock"]
    process: Any = subprocess.Popen(
        limited + command(repositories=[repository]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    running = Server(process)
    try:
        running.wait_live()
        running.wait_for(READY)
        with held(running.http, *[b""] * files):
            for address in (running.http, running.metrics):
                assert httpx.get(f"http://{address}/v2/health/ready").status_code == 200
        running.wait_for(rf"may open {files} files, .*: each port takes \d+ connections")
    finally:
        running.close()


def test_where_none_is_idle_a_new_connection_is_refused_and_the_others_go_on(
    server: Server,
) -> None:
    begun = HEAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with held(server.http, *[begun] * LIMIT) as busy:
        for each in busy:
            assert each.recv(65536).startswith(b"HTTP/1.1 100 ")
        with held(server.http, b"") as [late]:
            answer = until_closed(late)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"--max-connections" in answer
        for each in busy:
            each.sendall(b"abcde")
            assert each.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


@contextmanager
def channel(address: str) -> Iterator[grpc.Channel]:
    """A connection of its own, which channels otherwise share."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as opened:
        yield opened


def is_live(by: grpc.Channel, wait: bool = False, filler: str = "") -> bool:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(by)
    request, metadata = service_pb2.ServerLiveRequest(), [("x-filler", filler)]
    return bool(stub.ServerLive(request, 30, metadata, wait_for_ready=wait).live)


def test_over_grpc_a_new_connection_is_refused_and_the_others_go_on(server: Server) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(channel(server.grpc)) for _ in range(LIMIT)]
        # Calls that go on: none of these connections is idle.
        request = health_pb2.HealthCheckRequest()
        watches = [health_pb2_grpc.HealthStub(each).Watch(request) for each in busy]
        for watch in watches:
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with channel(server.grpc) as late:
            with pytest.raises(grpc.RpcError) as error:
                is_live(late)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert all(map(is_live, busy))
    with channel(server.grpc) as next_one:
        assert is_live(next_one, wait=True)


@pytest.mark.parametrize(
    "beginning",
    [b"", HEAD, HEAD + b"Content-Length: 5\r\n\r\nabc"],
    ids=["nothing", "half a head", "half a body"],
)
def test_who_keeps_the_server_waiting_is_cut_off(impatient: Server, beginning: bytes) -> None:
    with held(impatient.http, beginning) as [silent]:
        assert until_closed(silent) == b""


@pytest.mark.parametrize("asks_on", [False, True], ids=["silent", "asks on"])
def test_who_does_not_read_its_answer_is_cut_off(narrow: Server, asks_on: bool) -> None:
    # An answer that no system's buffers hold.
    size = 2**25
    binary = {"binary_data_size": size}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, size // 4], "parameters": binary}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    lengths = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + size}"
    large = HEAD.replace(b"echo", b"any") + f"{lengths}\r\n\r\n{head}".encode() + bytes(size)
    with held(narrow.http, large) as [deaf]:
        assert deaf.recv(1, socket.MSG_PEEK) == b"H"
        if asks_on:
            deaf.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        # Who reads makes it go on; so another one tells when the only place is free again.
        deadline = time.monotonic() + 30
        while httpx.get(f"{narrow.url}/v2/health/live").status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(until_closed(deaf)) < size


def test_who_says_nothing_over_grpc_is_cut_off(impatient: Server) -> None:
    with held(impatient.grpc, b"") as [silent]:
        until_closed(silent)


@pytest.mark.parametrize("name", CLIENTS)
async def test_whom_the_server_keeps_waiting_is_not_cut_off(impatient: Server, name: str) -> None:
    sent = np.ones((1, 1), np.float32)
    async with connect(name, impatient) as client:
        # Three times as long as a client may be silent.
        result = await client.infer("slow", {"x": sent})
        assert result.as_numpy("y") == sent


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_idle_client_connects_again_unseen(impatient: Server, name: str) -> None:
    sent = np.zeros((1, 1), np.float32)
    async with connect(name, impatient) as client:
        await client.infer("echo", {"x": sent})
        with held(impatient.http, b"") as [other]:
            await asyncio.to_thread(until_closed, other)
        await client.infer("echo", {"x": sent})


CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
BESIDE: Final = "chunk extension or trailer section"


@pytest.mark.parametrize(
    ("beginning", "piece", "part"),
    [
        (HEAD, b"X-Filler: " + b"x" * 65536, "head"),
        (CHUNKED + b"2;", b"x" * 65536, BESIDE),
        (CHUNKED + b"0\r\nX-Filler: ", b"x" * 65536, BESIDE),
        (CHUNKED + b"0\r\n", b"X-Filler: x\r\n" * 5000, BESIDE),
    ],
    ids=["a line of the head", "a chunk extension", "a trailer", "trailers"],
)
def test_what_has_no_end_is_refused_before_it_is_kept(
    server: Server, beginning: bytes, piece: bytes, part: str
) -> None:
    with held(server.http, beginning) as [endless]:
        for _ in range(256):
            endless.sendall(piece)
        answer = until_closed(endless)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.endswith(
        b'{"error":"the %s of the request has more than 65536 bytes"}' % part.encode()
    )


def test_who_sends_on_after_a_refusal_reads_it_all_the_same(server: Server) -> None:
    head = HEAD + b"Connection: close\r\nContent-Length: 100000000\r\n\r\n"
    with held(server.http, head) as [large]:
        # More than the buffers of any system take from somebody who does not read.
        for _ in range(512):
            large.sendall(bytes(65536))
        answer = until_closed(large)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"--http-max-input-size" in answer


def test_who_waits_for_an_answer_is_not_cut_off_for_half_a_malformed_request(
    impatient: Server,
) -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}'
    head = HEAD.replace(b"echo", b"slow") + b"Content-Length: %d\r\n\r\n" % len(body)
    with held(impatient.http, head + body + CHUNKED + b"x\r\n") as [waiting]:
        answer = until_closed(waiting)
    # Three times as long as a client may be silent, and then in order.
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert answer.endswith(b'{"error":"Invalid HTTP request received."}')


def test_who_will_send_no_more_has_hung_up(server: Server) -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}'
    head = HEAD.replace(b"echo", b"slow") + b"Content-Length: %d\r\n\r\n" % len(body)
    with held(server.http, head + body) as [hanging]:
        hanging.shutdown(socket.SHUT_WR)
        assert until_closed(hanging) == b""


def test_a_large_head_is_refused_in_the_protocols_form(server: Server) -> None:
    answer = httpx.get(f"{server.url}/v2", headers={"x-filler": "x" * 80_000})
    assert answer.status_code == 431
    assert answer.json() == {"error": "the head of the request has more than 65536 bytes"}


def test_large_metadata_is_refused_and_the_server_goes_on(server: Server) -> None:
    with channel(server.grpc) as one:
        assert is_live(one, wait=True, filler="x" * 8_000)
        with pytest.raises(grpc.RpcError) as error:
            is_live(one, filler="x" * 80_000)
        refusals = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        assert error.value.code() in refusals
        assert is_live(one, wait=True)


def test_what_is_no_request_is_refused_in_the_protocols_form(server: Server) -> None:
    with held(server.http, b"no request\r\n\r\n") as [odd]:
        answer = until_closed(odd)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b'{"error":"Invalid HTTP request received."}')
