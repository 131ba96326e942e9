"""Every server answers right; it is started until it does, and stopped with all it started."""

import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench import load_rest
from bench.cases import JSON, Case
from bench.contestants import Server
from bench.lineup import FASTAPI, MANY, OURS, PEERS, PICTURE, base, prepare
from bench.load import Wrong
from bench.machine import Cores, Unavailable, tree
from bench.models import mnist
from bench.peers import base as peer_base
from bench.peers.base import ROOT, START_SECONDS, Running, free_ports, launched
from tests.e2e.server import REPOSITORY

# Starts a worker that outlives it, and answers every GET of the folder it is in.
SERVER = """
import subprocess, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.mark.parametrize("name", [name for name in PEERS if name not in {OURS, MANY}])
def test_a_peer_answers_as_the_raw_runtime_does(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]

    with ExitStack() as stack:
        try:
            bench = prepare(REPOSITORY / "mnist-cnn" / "1" / "model.onnx", tmp_path / "models")
            running = stack.enter_context(peer.serve(bench.repository))
        except Unavailable as reason:
            pytest.skip(str(reason))
        server = Server(peer, running, bench.subjects, bench.cores)
        for kind in peer.kinds:
            server.check(Case(kind, 1))


def test_the_base_is_penstock_as_it_is_in_another_checkout(tmp_path: Path) -> None:
    (tmp_path / "penstock.py").write_text("raise SystemExit('this is the other one')")

    with (
        pytest.raises(Unavailable, match="this is the other one"),
        base(tmp_path).serve(REPOSITORY),
    ):
        pass


def test_an_answer_that_is_refused_is_no_right_one(tmp_path: Path) -> None:
    subject = mnist(REPOSITORY / "mnist-cnn" / "1" / "model.onnx", PICTURE, tmp_path)
    request = replace(PEERS[FASTAPI].request(JSON, subject), body=b"{}")

    with (
        PEERS[FASTAPI].serve(tmp_path) as running,
        pytest.raises(Wrong, match="/predict answers 422"),
    ):
        load_rest.check(running.http, request, subject.expected)


def test_a_server_that_does_not_answer_is_named_with_its_last_words(tmp_path: Path) -> None:
    subject = mnist(REPOSITORY / "mnist-cnn" / "1" / "model.onnx", PICTURE, tmp_path)
    log = tmp_path / "log"
    log.write_text("out of memory\n")
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mute = Running(process, 0.0, log, http=address)
        server = Server(PEERS[FASTAPI], mute, {JSON: subject}, Cores(server=0, load=0))

        with pytest.raises(Unavailable, match=r"^fastapi: .*refused(.|\n)*out of memory"):
            server.check(Case(JSON, 1))


def test_a_server_ends_with_the_workers_that_it_would_leave_behind(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", SERVER, str(port)]

    with launched(command, {"http": port}, tmp_path / "log", "/") as running:
        assert running.http == f"127.0.0.1:{port}"
        server, worker = tree(running.pid)
        assert server == running.pid
        ending = os.pidfd_open(worker)

    # Readable once the worker has ended.
    assert select.select([ending], [], [], START_SECONDS)[0] == [ending]
    os.close(ending)


def test_a_port_that_somebody_has_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(peer_base, "_PORTS", [taken.getsockname()[1]] * 9 + [port])

        assert free_ports(1) == [port]


def test_no_port_is_found_by_two_processes() -> None:
    program = "from bench.peers.base import free_ports; print(*sum(map(free_ports, [3] * 20), []))"
    finders = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]

    found = [port for finder in finders for port in finder.communicate()[0].split()]

    assert len(found) == len(set(found)) == 4 * 20 * 3
    assert [finder.returncode for finder in finders] == [0] * 4


def test_a_server_leaves_its_bytecode_to_the_next_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "imported.py").touch()
    (port,) = free_ports(1)
    command = [sys.executable, "-c", f"import imported\n{SERVER}", str(port)]

    with launched(command, {"http": port}, tmp_path / "log", "/", folder=tmp_path):
        pass

    assert list(tmp_path.glob("__pycache__/imported.*.pyc"))


def test_a_server_that_does_not_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]

    with (
        pytest.raises(Unavailable, match="the server ended; the end of its log:\nno such model"),
        launched(command, {"http": 1}, tmp_path / "log", "/"),
    ):
        pass
