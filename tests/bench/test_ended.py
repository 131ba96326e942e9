"""A peer whose process ends is left out of that case; the others' windows of it stay."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.progress import Progress

from bench import cases, compare, record, report
from bench.cases import JSON, Case
from bench.contestants import Ended
from bench.goals import throughput
from bench.lineup import FASTAPI, OURS, PICTURE, Bench, start_one
from bench.machine import cores
from bench.models import Subject, mnist
from bench.peers.base import Peer, Running, free_ports, launched
from bench.windows import Result, measure
from tests.bench import needs
from tests.bench.windows import window
from tests.e2e.server import REPOSITORY

OTHER = "litserve"
ENDED = "signal 9 (Killed)"
# Gives everyone one answer. It kills itself when it is asked again after a pause for so many times:
# between its windows it is not asked.
SERVER = """
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, answer, pauses = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
asked, lock = time.monotonic(), threading.Lock()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global asked, pauses
        self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            pauses -= time.monotonic() - asked > 0.5
            asked = time.monotonic()
            if pauses == 0:
                print("no more", "of this", sep="\\n", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        self.do_GET()

    def do_GET(self):
        head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(answer)}\\r\\n\\r\\n"
        self.wfile.write(head.encode() + answer)

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
ENDLESS = -1  # pauses
REFUSES = "raise SystemExit('not again')"


@dataclass(frozen=True)
class Scripted:
    """Serves with a program of its own each time that it is started, the last one for ever."""

    folder: Path
    answer: str
    programs: list[tuple[str, int]]

    @contextmanager
    def serve(self, repository: Path) -> Iterator[Running]:
        program, pauses = self.programs.pop(0) if self.programs[1:] else self.programs[0]
        (port,) = free_ports(1)
        command = [sys.executable, "-c", program, str(port), self.answer, str(pauses)]
        with launched(command, {"http": port}, self.folder / f"{port}.log", "/") as running:
            yield running


STEADY = (SERVER, ENDLESS)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return mnist(REPOSITORY / "mnist-cnn" / "1" / "model.onnx", PICTURE, tmp_path / "models")


def bench(folder: Path, subject: Subject, programs: Mapping[str, list[tuple[str, int]]]) -> Bench:
    """Servers of those programs, which are asked as plain FastAPI is."""
    answer = json.dumps({subject.output: subject.expected[0].tolist()})
    peers = {
        name: Peer(name, name, Scripted(folder, answer, each).serve, cases.plain_request, (JSON,))
        for name, each in programs.items()
    }
    return Bench(folder, {JSON: subject}, cores(), peers)


@needs.processors
@needs.tools
def test_the_others_windows_stay_and_ours_over_them(tmp_path: Path, subject: Subject) -> None:
    # The dying one is measured once; it ends in its second window.
    programs = {OURS: [STEADY], FASTAPI: [(SERVER, 2)], OTHER: [STEADY]}
    served = bench(tmp_path, subject, programs)

    with ExitStack() as stack:
        contestants = [start_one(served, name, stack) for name in programs]
        result = measure(Case(JSON, 2), contestants, rounds=2, seconds=1)

    assert result.windows.keys() == {OURS, OTHER}
    assert result.ratio(OURS, OTHER, throughput).n == 2
    assert result.errors == {}
    assert {name: ending.how for name, ending in result.ended.items()} == {FASTAPI: ENDED}
    assert "no more\nof this" in result.ended[FASTAPI].words


@needs.processors
@needs.tools
def test_who_ended_is_started_again_for_the_next_case_if_that_is_possible(
    tmp_path: Path, subject: Subject
) -> None:
    programs = {
        OURS: [STEADY],
        FASTAPI: [(SERVER, 1), STEADY],
        OTHER: [(SERVER, 1), (REFUSES, ENDLESS)],
    }
    flags = ["--only", JSON, "--connections", "1", "2", "--rounds=1", "--seconds=1"]
    told = compare.arguments([*flags, "--against", FASTAPI, OTHER])

    with Progress(disable=True) as progress:
        absent, results = compare.in_windows(told, bench(tmp_path, subject, programs), progress)

    assert [[*each.windows] for each in results] == [[OURS], [OURS, FASTAPI]]
    assert [each.ended.keys() for each in results] == [{FASTAPI, OTHER}, set()]
    ((name, reason),) = ((each.name, each.reason) for each in absent)
    assert name == OTHER
    assert "not again" in reason


@needs.processors
@needs.tools
def test_the_end_of_ours_is_an_error(tmp_path: Path, subject: Subject) -> None:
    told = compare.arguments(
        ["--only", JSON, "--connections=1", "--rounds=1", "--seconds=1", "--against", FASTAPI]
    )
    served = bench(tmp_path, subject, {OURS: [(SERVER, 1)], FASTAPI: [STEADY]})

    with (
        Progress(disable=True) as progress,
        pytest.raises(Ended, match=r"ours has ended: signal 9 (.|\n)*no more"),
    ):
        compare.in_windows(told, served, progress)


def test_the_tables_and_the_record_say_who_ended_and_how(tmp_path: Path) -> None:
    ending = Ended(FASTAPI, ENDED, "no more\n of this\n")
    result = Result(Case(JSON, 2), {OURS: [window()]}, ended={FASTAPI: ending})

    document, page = record.save(record.Run({}, [result], {}, []), "it", tmp_path)

    rows = [row[:3] for row in report.of_cases([result]).rows]
    assert rows == [[str(result.case), OURS, "1,000"], ["", FASTAPI, "ended"]]
    (told,) = json.loads(document.read_text())["cases"]
    assert told["ended"] == {FASTAPI: {"how": ENDED, "words": "no more\n of this\n"}}
    assert f"- {FASTAPI}, ended in {result.case}: {ENDED}: no more of this\n" in page.read_text()
