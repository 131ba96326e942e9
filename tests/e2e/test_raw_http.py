"""Whatever bytes come over a connection, the answer is one of the protocol's, and others go on."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import httpx
import pytest

from tests.e2e.server import Server, penstock_server

BODY: Final = b'{"inputs": []}'
INFER: Final = "POST /v2/models/digits-mlp/infer"
READY: Final = "GET /v2/health/ready"
FAULT: Final = re.compile(r"\S+ \S+ ERROR ")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that logs every request, too; it was never surprised."""
    with penstock_server("--log-verbose=1") as running:
        yield running
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 200
    assert not [line for line in running.log if FAULT.match(line) or "Traceback" in line]


def exchange(server: Server, sent: bytes) -> list[int]:
    """Send these bytes; the statuses of what comes back until the server closes the connection."""
    received = answered(server, sent)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def answered(server: Server, sent: bytes) -> bytes:
    """Send these bytes; what comes back until the server closes the connection."""
    host, port = server.http.split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        while piece := connection.recv(65536):
            received += piece
    return received


def request(line: str, *headers: str, body: bytes = b"", version: str = "1.1") -> bytes:
    head = "\r\n".join([f"{line} HTTP/{version}", "Host: test", *headers])
    return f"{head}\r\n\r\n".encode("latin-1") + body


def sized(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


CHUNKED: Final = "Transfer-Encoding: chunked"
CLOSE: Final = "Connection: close"
STAYS: Final = "Connection: keep-alive"
# As the HTTP client of Java begins on a plain port, and curl with --http2.
H2C: Final = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
)
CASES: Final[dict[str, tuple[bytes, list[int]]]] = {
    "a request of HTTP 1.0": (request(READY, version="1.0"), [200]),
    "an infer request of HTTP 1.0": (
        request(INFER, sized(BODY), body=BODY, version="1.0"),
        [400],
    ),
    "infer requests of HTTP 1.0 on one connection": (
        request(INFER, sized(BODY), STAYS, body=BODY, version="1.0") * 2
        + request(READY, version="1.0"),
        [400, 400, 200],
    ),
    "requests that would rather speak HTTP/2": (
        request(READY, *H2C)
        + request(INFER, *H2C, sized(BODY), body=BODY) * 2
        # In pieces, which are no other protocol's either.
        + request(INFER, *H2C, CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n")
        + request(READY, CLOSE),
        [200, 400, 400, 400, 200],
    ),
    "a WebSocket": (
        request("GET /v2/models/digits-mlp", "Connection: Upgrade", "Upgrade: websocket")
        + request(READY, CLOSE),
        [200, 200],
    ),
    "a tunnel": (request("CONNECT other:80"), [400]),
    "HEAD": (request("HEAD /v2/health/ready", CLOSE), [200]),
    "HEAD where only POST is": (request(INFER.replace("POST", "HEAD"), CLOSE), [405]),
    "OPTIONS": (request("OPTIONS /v2/models/digits-mlp/infer", CLOSE), [405]),
    "OPTIONS of everything": (request("OPTIONS *", CLOSE), [404]),
    "TRACE": (request("TRACE /v2", CLOSE), [405]),
    "two lengths": (request(INFER, sized(BODY), "Content-Length: 3", body=BODY), [400]),
    "a negative length": (request(INFER, "Content-Length: -1", body=BODY), [400]),
    "a length in words": (request(INFER, "Content-Length: all", body=BODY), [400]),
    "a length beyond 64 bits": (request(INFER, "Content-Length: " + "9" * 40, body=BODY), [400]),
    "a length beside chunks": (request(INFER, sized(BODY), CHUNKED, body=BODY), [400]),
    "a chunk of no size": (request(INFER, CHUNKED, body=b"x\r\n" + BODY), [400]),
    "what would be a header, behind the chunks": (
        request(INFER, CHUNKED, CLOSE, body=b"2\r\n{}\r\n0\r\nContent-Encoding: br\r\n\r\n"),
        [400],
    ),
    "a chunk beyond 64 bits": (request(INFER, CHUNKED, body=b"f" * 17 + b"\r\n" + BODY), [400]),
    "a negative chunk": (request(INFER, CHUNKED, body=b"-1\r\n"), [400]),
    "spaces before a colon": (request(READY, "Content-Length : 3"), [400]),
    "a header without a name": (request(READY, ": value"), [400]),
    "a NUL in a header": (request(READY, "X: a\0b"), [400]),
    "a line alone": (b"\r\n\r\n" + request(READY, CLOSE), [200]),
    "a NUL in the path": (request("GET /v2/models/a\0b"), [400]),
    "an escaped NUL in the path": (request("GET /v2/models/a%00b", CLOSE), [404]),
    "no Unicode in the path": (request("GET /v2/models/%ff%fe", CLOSE), [404]),
    "an overlong escape": (request("GET /v2/models/%c0%ae%c0%ae/config", CLOSE), [404]),
    "half an escape": (request("GET /v2/models/%", CLOSE), [404]),
    "a path out of the house": (request("GET /v2/../../etc/passwd", CLOSE), [404]),
    "a model out of the house": (request("GET /v2/models/..%2f..%2fetc/config", CLOSE), [404]),
    "a version out of the house": (
        request("GET /v2/models/digits-mlp/versions/..%2f..%2f1/config", CLOSE),
        [404],
    ),
    "a version of dots": (request("GET /v2/models/digits-mlp/versions/../config", CLOSE), [400]),
    "a whole address": (request("GET http://other/v2/health/ready", CLOSE), [200]),
    "no path": (request("GET ?x", CLOSE), [400]),
    "a hundred headers": (request(READY, CLOSE, *(f"X-{i}: y" for i in range(100))), [200]),
    "another one behind it": (
        request(INFER, sized(BODY), body=BODY) + request(READY, CLOSE),
        [400, 200],
    ),
    "something else behind it": (
        request(INFER, sized(BODY), body=BODY) + request(READY) + b"no request\r\n\r\n",
        [400, 200, 400],
    ),
    "a hundred in a row": (request(READY) * 99 + request(READY, CLOSE), [200] * 100),
    "a body that is longer than announced": (
        request(INFER, "Content-Length: 5", body=BODY),
        [400, 400],
    ),
}


@pytest.mark.parametrize(("sent", "statuses"), CASES.values(), ids=CASES.keys())
def test_every_oddity_has_its_answer(server: Server, sent: bytes, statuses: list[int]) -> None:
    assert exchange(server, sent) == statuses


@pytest.mark.parametrize("header", [CLOSE, STAYS])
def test_a_stream_to_a_client_of_http_1_0_has_no_chunks_and_ends_with_its_connection(
    server: Server, header: str
) -> None:
    body = json.dumps({"features": [0.0] * 64}).encode()
    line = "POST /v2/models/digits-mlp/generate_stream"
    answer = answered(server, request(line, sized(body), header, body=body, version="1.0"))
    head, _, events = answer.lower().partition(b"\r\n\r\n")
    assert head.startswith(b"http/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert head.count(b"\nconnection: ") == head.count(b"\nconnection: close") == 1
    assert events.startswith(b"data: {")
    assert events.endswith(b"}\n\n")


@pytest.mark.parametrize(
    "sent",
    [
        request(INFER, sized(BODY), body=BODY[:5]),
        request(INFER, CHUNKED, body=b"5\r\n" + BODY[:5] + b"\r\n"),
        request("POST /v2/repository/index", "Content-Length: 1000", body=BODY),
        request(INFER, "Expect: 100-continue", sized(BODY)),
        b"GET /v2/health",
    ],
    ids=["a body", "chunks", "an index request", "a body that waits for its turn", "a head"],
)
def test_half_a_request_gets_no_answer_and_does_no_harm(server: Server, sent: bytes) -> None:
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
    assert exchange(server, request(READY, CLOSE)) == [200]


def test_a_client_that_goes_while_its_requests_queue_up_is_forgotten(server: Server) -> None:
    host, port = server.http.split(":")
    queued = request(INFER, sized(BODY), body=BODY) + request(READY) * 50
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(queued)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while connection.recv(65536):
                    pass

    # That nothing of it is logged as a fault, the fixture finds in the end.
    assert exchange(server, request(READY, CLOSE)) == [200]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/v2",
        "/v2/health/live",
        "/v2/models/digits-mlp/ready",
        "/v2/models/nobody/ready",
        "/v2/models/nobody/config",
    ],
)
def test_head_is_answered_as_get_is_without_the_body(server: Server, path: str) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        get, head = client.get(path), client.head(path)
        # On the same connection, where a body would be taken for the next answer.
        assert client.get(path).content == get.content
    assert (head.status_code, head.content) == (get.status_code, b"")
    del get.headers["date"], head.headers["date"]
    assert head.headers == get.headers


def test_head_on_the_metrics_port_is_answered_too(server: Server) -> None:
    for path in ("/metrics", "/v2/health/ready"):
        answer = httpx.head(f"http://{server.metrics}{path}", trust_env=False)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/v2/models/digits-mlp/infer", "POST"),
        ("/v2/logging", "GET, HEAD, POST"),
    ],
)
def test_a_wrong_method_is_told_which_ones_are_right(
    server: Server, path: str, allowed: str
) -> None:
    answer = httpx.delete(f"{server.url}{path}", trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_no_path_writes_lines_of_its_own_into_the_log(server: Server) -> None:
    line = "2026-01-01 00:00:00,000 ERROR forged"
    for escaped in ("%0A", "%0D%0A", "%E2%80%A8", "%1B%5B2K"):
        path = f"/v2/models/a{escaped}{line.replace(' ', '%20')}"
        assert exchange(server, request(f"GET {path}", CLOSE)) == [404]

    server.wait_for(r"a%1B%5B2K.* forged")
    told = [logged for logged in server.log if "forged" in logged]
    assert len(told) == 4
    assert all(" GET /v2/models/a%" in logged and "\x1b" not in logged for logged in told)
