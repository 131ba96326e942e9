"""The benchmark of reloads measures what it says, and puts both beside each other."""

import re
import subprocess
import sys

from tests.e2e.server import ROOT


def test_a_short_run_counts_every_request_and_reloads_for_real() -> None:
    flags = ("--model=digits-mlp", "--rounds=1", "--seconds=1", "--rate=40", "--pause=0.1")
    done = subprocess.run(
        [sys.executable, "-m", "bench.reload", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {
        cells[0]: cells[1:]
        for cells in (
            [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
            for line in done.stdout.splitlines()
        )
        if cells
    }
    assert rows["n"] == ["40", "40", ""]
    assert rows["reloads"][0] == "0"
    assert int(rows["reloads"][1]) > 1
    assert float(rows["p99"][2]) > 0
    assert "40 requests/s of 1 rows" in done.stdout.replace("\n", " ")
