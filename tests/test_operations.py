"""The commands of docs/operations.md do what it says; each `sh` block is run as it stands."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from serving.command import serve
from serving.settings import Settings, given
from tests.e2e.server import READY, ROOT, Server, environment, starting_server

PAGE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COMMANDS: Final = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]

# Words of a command, and what it tells.
TOLD: Final = {
    "health/ready": "HTTP/1.1 200",
    "repository/index": '"state":"READY"',
    "digits-mlp/infer": "server-timing: queue;dur=",
    "rows:": "1 rows: ",
    "penstock_load": "nv_inference_pending_request_count{",
    "doctor --json": '"schema": "penstock.doctor/1"',
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = ("--load-model=mnist-cnn", "--load-model=digits-mlp")
    with starting_server("--model-control-mode=explicit", *models) as running:
        running.wait_for(READY)
        run(running, "curl -s --data-binary @docs/seven.png localhost:8000/predict/mnist-cnn")
        yield running


def run(server: Server, command: str) -> str:
    """What the command prints, asking the test's server and measuring briefly."""
    command = command.replace("localhost:8000", server.http)
    command = command.replace("localhost:8002", server.metrics)
    command = command.replace("penstock bench", "penstock bench --requests 20 --warm-up 0")
    command = command.replace("p99=50ms", "p99=60s")
    command = command.replace("penstock doctor", "penstock doctor --http-port 0 --grpc-port 0")
    command = re.sub(r"^penstock", f"{sys.executable} -m penstock", command)
    done = subprocess.run(
        command,
        shell=True,
        cwd=ROOT,
        # Metrics of a server that runs on this machine's usual ports are none of the test's.
        env=environment({"PENSTOCK_METRICS_PORT": "0"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_works_and_tells_what_the_page_talks_of(server: Server, command: str) -> None:
    told = run(server, command)

    assert '"error"' not in told
    assert "HTTP/1.1 4" not in told
    for words, expected in TOLD.items():
        assert words not in command or expected in told


def test_what_commands_tell_is_of_commands_that_are_there() -> None:
    assert [words for words in TOLD if not any(words in command for command in COMMANDS)] == []


def test_every_alert_points_at_a_heading_that_exists() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text(encoding="utf-8")
    headings = {line.lstrip("# ").rstrip("?") for line in PAGE.splitlines() if line[:2] == "##"}
    named = re.findall(r"'([^']+)' in docs/operations\.md", rules)

    assert named
    assert set(named) <= headings


def test_the_pages_that_are_named_exist() -> None:
    pages = re.findall(r"\]\((\w+\.md)\)", PAGE)

    assert pages
    assert [page for page in pages if not Path(ROOT, "docs", page).exists()] == []


UNIT: Final = ROOT / "deploy" / "systemd" / "penstock.service"


def told_to_the_service() -> dict[str, str]:
    """The variables of the unit and its drop-ins."""
    lines = "\n".join(file.read_text() for file in (UNIT, *UNIT.parent.glob("*.conf")))
    return dict(
        variable.split("=", 1)
        for line in re.findall(r"^Environment=(.+)$", lines, re.MULTILINE)
        for variable in line.split()
    )


def test_the_service_and_its_drop_ins_tell_the_server_what_it_understands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = told_to_the_service()
    known = {option.envvar for option in serve.params if isinstance(option, click.Option)}
    assert told.keys() <= known

    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    settings = given(serve.make_context("serve", []).params)
    assert settings.http_use_ssl
    assert settings.grpc_use_ssl
    # Each file comes from root's by that name.
    loaded = set(
        re.findall(r"^LoadCredential=(\S+?):", (UNIT.parent / "secure.conf").read_text(), re.M)
    )
    assert {value.removeprefix("%d/") for value in told.values() if "%d/" in value} == loaded


def test_the_service_may_stop_for_as_long_as_the_server_takes() -> None:
    [granted] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    settings = Settings()

    # Sequences, three protocols, and models that run on.
    assert int(granted) >= settings.exit_grace_secs + 5 * settings.exit_timeout_secs


def test_the_service_is_started_again_however_often_a_start_fails() -> None:
    [pause] = re.findall(r"^RestartSec=(\d+)$", UNIT.read_text(), re.MULTILINE)

    # By default systemd gives up after five starts in ten seconds.
    assert 5 * int(pause) > 10


def test_systemd_takes_the_service_with_its_drop_ins(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd here")
    # Nothing is installed in /opt.
    unit = UNIT.read_text().replace("/opt/penstock/bin/penstock", sys.executable)
    (tmp_path / UNIT.name).write_text(unit)
    shutil.copytree(
        UNIT.parent, tmp_path / f"{UNIT.name}.d", ignore=shutil.ignore_patterns("*.service")
    )
    done = subprocess.run(
        [analyze, "verify", tmp_path / UNIT.name],
        env=environment({"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_files_that_are_installed_are_there() -> None:
    installed = re.findall(r"^install .*?(deploy/\S+)|^cp (deploy/\S+)", PAGE, re.MULTILINE)

    assert len(installed) >= 5
    assert [path for path in map("".join, installed) if not (ROOT / path).exists()] == []
