"""Tensors in shared memory: the answer is looked for there, and nothing of it stays."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from bench import models, shared
from bench.cases import LARGE_SHARED, Case
from bench.contestants import Server
from bench.lineup import OURS, PEERS
from bench.load import Wrong
from bench.machine import Cores
from bench.models import Subject
from bench.peers import ours
from bench.peers.base import free_ports, launched
from bench.shared import PREFIX

CASE = Case(LARGE_SHARED, 1)
CORES = Cores(server=0, load=0)
OBJECTS = Path("/dev/shm")
# Accepts whatever it is sent, and does nothing about it.
IDLE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# Has its regions in use, as Triton has for a moment behind the last answer of a load.
BUSY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    refusals = 2

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        busy = self.path.endswith("/unregister") and Handler.refusals > 0
        Handler.refusals -= busy
        self.send_response(500 if busy else 200)
        self.end_headers()
        if busy:
            self.wfile.write(b"Cannot unregister: it is currently in use.")

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return models.cifar(tmp_path / "models")


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    assert not list(OBJECTS.glob(f"{PREFIX}{os.getpid()}-*"))


def test_ours_answers_in_the_region_and_forgets_it(tmp_path: Path, subject: Subject) -> None:
    with ours.serve_sharing(tmp_path / "models") as running:
        Server(PEERS[OURS], running, {LARGE_SHARED: subject}, CORES).check(CASE)

        with urlopen(f"http://{running.http}/v2/systemsharedmemory/status") as response:
            assert json.load(response) == []


def test_a_server_that_puts_no_answer_there_is_wrong(tmp_path: Path, subject: Subject) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", IDLE, str(port)]

    with launched(command, {"http": port}, tmp_path / "log", "/") as running:
        server = Server(PEERS[OURS], running, {LARGE_SHARED: subject}, CORES)
        with pytest.raises(Wrong, match=r"answers \[\[\[\[0\. 0\."):
            server.check(CASE)


def test_a_region_that_is_still_in_use_is_forgotten_a_little_later(
    tmp_path: Path, subject: Subject
) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", BUSY, str(port)]

    launch = launched(command, {"http": port}, tmp_path / "log", "/")
    with launch as running, shared.request(running.http, subject):
        pass


def test_a_server_that_shares_nothing_says_so(tmp_path: Path, subject: Subject) -> None:
    with ours.serve(tmp_path / "models") as running:
        server = Server(PEERS[OURS], running, {LARGE_SHARED: subject}, CORES)
        with pytest.raises(Wrong, match="--allow-client-shm=true"):
            server.check(CASE)
