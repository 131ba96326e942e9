"""The benchmark of texts counts every token it was asked for, and puts many streams beside one."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench import generation
from tests.e2e.server import ROOT


def turn(tokens: int, seconds: float) -> generation.Turn:
    return generation.Turn(tokens, seconds, cpu_seconds=seconds / 2, first=[0.01])


def test_ratios_are_taken_round_by_round() -> None:
    table = generation.report(
        {1: [turn(100, 1.0), turn(100, 2.0)], 16: [turn(1600, 4.0), turn(1600, 4.0)]}
    )
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["1", "16"]
    assert cells[1] == ["75 ± 35", "400"]
    assert cells[2] == ["1.00", "6.00 ± 2.83"]
    assert cells[3] == ["150 ± 71", "800"]


def test_a_short_run_counts_every_token() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.generation", "--streams=2", "--tokens=20", "--rounds=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    [row] = [line for line in done.stdout.splitlines() if line.startswith("│ 2 ")]
    assert float(row.split("│")[2].split("±")[0].replace(",", "")) > 0


def test_a_record_says_where_it_was_measured(tmp_path: Path) -> None:
    options = generation.arguments(["--save", "mine", "--tokens", "20"])
    path = generation.save({1: [turn(20, 0.5)]}, options, tmp_path)
    record = json.loads(path.read_text())
    assert record["options"] == {"model": "shakespeare-gpt", "tokens": 20, "rounds": 5}
    assert record["streams"]["1"][0]["tokens"] == 20
    assert {"date", "hardware", "load average", "commit", "versions"} <= record.keys()
