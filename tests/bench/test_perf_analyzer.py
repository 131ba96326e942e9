"""perf_analyzer measures Penstock where it is available, and else it is said what is missing."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from bench import perf_analyzer
from bench.machine import Unavailable
from bench.perf_analyzer import Figures, Program

REPORT = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,\
Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,\
p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
4,1276.8,12,900,250,6,210,24,0,3000,3810,5000,6270,3100,12,3050
"""


@pytest.fixture
def program() -> Program:
    """The real one; where there is none, the reason."""
    try:
        path = perf_analyzer.find(None)
        folders = perf_analyzer.library_folders(())
        with perf_analyzer.runnable(path, folders) as found:
            return found
    except Unavailable as reason:
        pytest.skip(str(reason).partition("\n")[0])


def test_a_report_is_read_by_its_headings() -> None:
    assert perf_analyzer.read("grpc", REPORT) == [
        Figures("grpc", 4, 1276.8, p50=3000, p90=3810, p99=6270, queue=250, compute=240)
    ]


def test_a_library_is_found_under_its_own_name_and_under_a_repaired_wheels(tmp_path: Path) -> None:
    plain, repaired = tmp_path / "plain", tmp_path / "repaired"
    for folder, name in ((plain, "libb64.so.0d"), (repaired, "libcudart-09529672.so.12.6.77")):
        folder.mkdir()
        (folder / name).touch()

    folders = [plain, repaired]

    assert perf_analyzer.find_library("libb64.so.0d", folders) == plain / "libb64.so.0d"
    assert perf_analyzer.find_library("libcudart.so.12", folders) == (
        repaired / "libcudart-09529672.so.12.6.77"
    )
    assert perf_analyzer.find_library("libcudart.so.11", folders) is None


def test_without_the_program_it_is_said_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(perf_analyzer.VARIABLE, raising=False)

    with pytest.raises(SystemExit) as ended:
        perf_analyzer.main([])

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("perf_analyzer is not here: not on the PATH, and $PERF_ANALYZER is not")
    assert "pip download --no-deps" in said


def test_a_named_file_that_is_no_program_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nothing = tmp_path / "perf_analyzer"

    with pytest.raises(SystemExit) as ended:
        perf_analyzer.main(["--binary", str(nothing)])

    assert ended.value.code == 2
    assert f"{nothing} is no program" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("ldd"), reason="no ldd to ask for a program's libraries")
def test_another_program_is_not_taken_for_it() -> None:
    with (
        pytest.raises(Unavailable, match="is no perf_analyzer"),
        perf_analyzer.runnable(Path(sys.executable).resolve(), ()),
    ):
        pass


def test_libraries_that_are_nowhere_are_named_with_who_brings_them(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = perf_analyzer.missing_libraries(program.path, os.environ)
    if not lacking:
        pytest.skip("perf_analyzer lacks no library here")

    with pytest.raises(Unavailable) as caught, perf_analyzer.runnable(program.path, ()):
        pass

    for name in lacking:
        assert f"  {name} ({perf_analyzer.SOURCES[name]})" in str(caught.value)


@pytest.mark.usefixtures("program")
def test_it_measures_both_protocols() -> None:
    # A stability of 99 % takes the first windows as they are: this is no benchmark.
    told = ["--model=digits-mlp", "--concurrency", "2", "--requests=20", "--", "-s", "99"]

    figures = perf_analyzer.run(perf_analyzer.arguments(told))

    assert [(one.protocol, one.concurrency) for one in figures] == [("http", 2), ("grpc", 2)]
    # What the server counted has arrived as well as what the client did.
    assert all(0 < one.compute < one.p99 and one.throughput > 0 for one in figures)
