"""The benchmark of workers measures what it says, on as many processors as it says."""

import os
import re
import subprocess
import sys

import pytest

from bench.workers import Setup, setups
from tests.bench import needs
from tests.e2e.server import ROOT


def run(*flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench.workers", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_machine_is_measured_whole_and_in_halves() -> None:
    assert setups(1) == [Setup(1, 0), Setup(1, 1)]
    assert setups(3) == [*setups(1), Setup(2, 0), Setup(2, 1), Setup(2, 2)]
    assert [each for each in setups(4) if each.processors == 4] == [
        Setup(4, 0), Setup(4, 1), Setup(4, 4)
    ]  # fmt: skip


@needs.tools
def test_a_short_run_tells_what_a_worker_costs_beside_one_process() -> None:
    done = run("--processors=1", "--kinds", "small", "--rounds=1", "--seconds=1")
    assert done.returncode == 0, done.stderr
    table = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in done.stdout.splitlines()
    ]
    one, other = (cells for cells in table if cells[1:2] == ["1"])
    assert (one[0], one[2], other[0], other[2]) == ("small", "0", "", "1")
    assert other[4] == "1.00x (1.00-1.00)"
    assert {one[-1], other[-1]} == {"0"}
    cost, most = (int(text.split()[0].replace(",", "")) for text in other[5:7])
    assert 0 < most < cost  # an engine and a worker
    assert one[5] == one[6]  # one process


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_more_processors_than_there_are_are_refused() -> None:
    there = len(os.sched_getaffinity(0))
    done = run(f"--processors={there + 1}")
    assert done.returncode == 2
    assert f"--processors {there + 1}: this process may use {there}" in done.stderr
