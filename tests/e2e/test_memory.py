"""No request makes the server hold much more than what it was sent."""

import io
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest
from PIL import Image

from tests.e2e.server import Server, penstock_server

MIB: Final = 1024 * 1024
# --http-max-input-size as it is without the flag.
LIMIT: Final = 64 * MIB
INFER: Final = "/v2/models/digits-mlp/infer"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with penstock_server() as running:
        yield running


class Peak:
    """The most memory that a process has had resident since this was made."""

    def __init__(self, server: Server) -> None:
        self._folder = Path(f"/proc/{server.process.pid}")
        (self._folder / "clear_refs").write_text("5")
        self._before = self._most()

    def grown(self) -> int:
        """In bytes."""
        return self._most() - self._before

    def _most(self) -> int:
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", (self._folder / "status").read_text())
        return int(kilobytes) * 1024


def test_connections_that_are_idle_keep_nothing_of_what_they_sent(server: Server) -> None:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=server.url, timeout=60)) for _ in range(24)
        ]
        peak = Peak(server)
        for client in clients:
            assert client.post(INFER, content=b" " * 8 * MIB).status_code == 400
        assert peak.grown() < 96 * MIB


def test_bodies_that_are_announced_and_never_sent_take_no_room(server: Server) -> None:
    host, port = server.http.split(":")
    head = f"POST {INFER} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {LIMIT}\r\n\r\n"
    peak = Peak(server)

    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection((host, int(port)), 30))
            connection.sendall(head.encode() + b'{"inputs": [')
        assert httpx.get(f"{server.url}/v2/health/ready", timeout=60).status_code == 200

    assert peak.grown() < 64 * MIB


@pytest.mark.parametrize("item", [b"[]", b"{}", b"[[]]", b'{"a":[]}'])
def test_a_body_full_of_empty_lists_is_refused_before_it_is_read(
    server: Server, item: bytes
) -> None:
    body = b'{"inputs":[' + (item + b",") * (32 * MIB // (len(item) + 1)) + b"[]]}"
    peak = Peak(server)

    answer = httpx.post(f"{server.url}{INFER}", content=body, timeout=60)

    assert answer.status_code == 400
    assert "more than 1000000 lists and objects" in answer.json()["error"]
    assert peak.grown() < 8 * len(body)


def test_large_pictures_are_decoded_a_few_at_a_time(server: Server) -> None:
    file = io.BytesIO()
    side = 4096
    Image.new("RGBA", (side, side)).save(file, "PNG")
    peak = Peak(server)

    def predict(_: int) -> int:
        return httpx.post(
            f"{server.url}/predict/mnist-cnn", content=file.getvalue(), timeout=60
        ).status_code

    with ThreadPoolExecutor(8) as clients:
        assert [*clients.map(predict, range(8))] == [200] * 8

    # Eight at once would take eight times 4 bytes a pixel, several times over.
    assert peak.grown() < 2 * 5 * 4 * side * side
