"""The README's commands do what it says; each is run as it stands, ports and folders aside."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.server import Server, penstock_server

ROOT: Final = Path(__file__).parent.parent
_BLOCK: Final = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: Final = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
COMMANDS: Final = [
    line.partition("#")[0].strip() if line.startswith("make") else line
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
]
PROGRAMS: Final = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with penstock_server() as running:
        yield running


def _run(command: str | list[str]) -> str:
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make")])
def test_the_make_targets_exist(command: str) -> None:
    _run(f"{command} --dry-run")


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("curl")])
def test_a_curl_line_gets_an_answer(server: Server, command: str) -> None:
    answer = json.loads(_run(command.replace("localhost:8000", server.http)))

    assert "error" not in answer
    predictions = answer.get("predictions")
    if predictions is None:
        scores = {output["name"]: output["data"] for output in answer["outputs"]}
        assert scores["probabilities"].index(max(scores["probabilities"])) == 0
    else:
        assert [prediction["label"] for prediction in predictions] == ["7"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_python_block_runs(server: Server, program: str) -> None:
    program = program.replace("localhost:8000", server.http).replace("localhost:8001", server.grpc)

    assert _run([sys.executable, "-c", program]).strip() == "(2, 10)"


@pytest.mark.parametrize(
    "command", [line for line in COMMANDS if re.search("penstock (config|validate|doctor)", line)]
)
def test_a_command_that_checks_finds_nothing_wrong(command: str) -> None:
    assert _run(command.replace(".venv/bin/penstock", f"{sys.executable} -m penstock"))


def test_measuring_writes_a_page_and_meets_a_kinder_objective(
    server: Server, tmp_path: Path
) -> None:
    (command,) = [line for line in COMMANDS if "penstock bench" in line]
    _run(
        command.replace(".venv/bin/penstock", f"{sys.executable} -m penstock")
        .replace("localhost:8000", server.http)
        .replace("p99=50ms", "p99=60s --requests 20 --warm-up 0")
        .replace("curve.html", str(tmp_path / "curve.html"))
    )

    assert "SLO met" in (tmp_path / "curve.html").read_text(encoding="utf-8")


def test_training_your_own_ends_in_the_repository(tmp_path: Path) -> None:
    commands = [line for line in COMMANDS if re.search("penstock (train|export)", line)]
    assert len(commands) == 2
    for command in commands:
        _run(
            command.replace(".venv/bin/penstock", f"{sys.executable} -m penstock")
            .replace("runs/mine", str(tmp_path / "mine"))
            .replace("--repository model_repository", f"--repository {tmp_path / 'repository'}")
        )

    with penstock_server(repository=tmp_path / "repository") as running:
        assert "mine (version 1)" in "".join(running.output)


def test_every_setting_is_documented_by_help() -> None:
    (command,) = [line for line in COMMANDS if line.endswith("serve --help")]
    text = _run(command.replace(".venv/bin/penstock", f"{sys.executable} -m penstock"))

    assert "PENSTOCK_MODEL_REPOSITORY" in text


def test_nothing_in_the_readme_is_left_unchecked() -> None:
    checked = ("make", "curl", ".venv/bin/penstock")
    assert [line for line in COMMANDS if not line.startswith(checked)] == []


def test_the_accuracies_are_those_of_the_passports() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \|[^|]*\| ([\d.]+) % of ([\d,]+) \|",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    models = {path.name for path in (ROOT / "model_repository").iterdir()}
    assert rows
    assert {name for name, _, _ in rows} <= models
    for name, percent, count in rows:
        newest = max((ROOT / "model_repository" / name).glob("*/passport.json"))
        accuracy = json.loads(newest.read_text())["accuracy"]
        assert f"{accuracy['value']:.2%}" == f"{percent}%"
        assert f"{accuracy['n']:,}" == count
