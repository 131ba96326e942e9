"""How `penstock doctor` reports: lines, JSON, exit codes, the server's own flags and variables."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.peers.base import free_ports
from serving.command import serve
from serving.doctor import command
from serving.doctor.command import CHECKS, doctor
from serving.doctor.findings import Finding, Verdict, good, warning, worst
from serving.settings import Settings
from tests.e2e.server import environment
from tests.serving.validate.repositories import good as good_model

FREE = ("--http-port=0", "--grpc-port=0", "--metrics-port=0", "--passport-policy=off")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    good_model(tmp_path, "m")
    return tmp_path


def run(*arguments: object, **variables: str) -> Result:
    return CliRunner().invoke(doctor, [*FREE, *map(str, arguments)], env=variables)


def found(result: Result) -> dict[str, dict[str, str]]:
    """The findings of a JSON document, by check."""
    return {each["check"]: each for each in json.loads(result.stdout)["findings"]}


def test_a_fit_machine_has_exit_code_0(repository: Path) -> None:
    result = run(f"--model-repository={repository}")

    assert result.exit_code == 0, result.output
    assert "good     repository       " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100 + len(str(repository))


def test_json_names_every_check(repository: Path) -> None:
    result = run("--json", f"--model-repository={repository}")
    document = json.loads(result.stdout)

    assert document["schema"] == "penstock.doctor/1"
    assert document["verdict"] in ("good", "warning")
    assert {check.__name__ for check in CHECKS} == {
        *("packages", "interpreter", "runtime", "threads", "memory", "shared_memory"),
        *("files", "clock", "ports", "security", "servers", "repository"),
    }
    assert {"packages", "runtime", "gpu", "threads", "port of grpc", "repository"} <= set(
        found(result)
    )
    assert found(result)["repository"]["advice"] is None


def test_models_at_fault_fail_and_their_check_is_named(repository: Path) -> None:
    (repository / "m" / "1" / "model.onnx").write_bytes(b"")
    result = run("--json", f"--model-repository={repository}")

    assert result.exit_code == 1
    assert found(result)["repository"]["verdict"] == "fault"
    assert f"`penstock validate {repository}`" in found(result)["repository"]["advice"]


def test_the_servers_variables_count(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = CliRunner().invoke(
            doctor,
            ["--json", "--passport-policy=off"],
            env={
                "PENSTOCK_MODEL_REPOSITORY": str(repository),
                "PENSTOCK_HTTP_ADDRESS": "127.0.0.1",
                "PENSTOCK_HTTP_PORT": str(other.getsockname()[1]),
                "PENSTOCK_GRPC_PORT": "0",
                "PENSTOCK_METRICS_PORT": "0",
            },
        )

    assert result.exit_code == 1
    assert found(result)["port of http"]["verdict"] == "fault"


def test_every_flag_of_the_server_is_taken_and_those_that_matter_here_are_told_of() -> None:
    flags = {name for option in doctor.params for name in option.opts}
    told = CliRunner().invoke(doctor, ["--help"]).stdout

    assert {name for option in serve.params for name in option.opts} <= flags
    assert "--api-keys-file" in told
    assert "--trace-config" not in told


def test_a_file_of_security_that_is_not_there_is_a_fault(repository: Path) -> None:
    result = run("--json", f"--model-repository={repository}", "--api-keys-file=/none")

    assert result.exit_code == 1
    assert found(result)["security"]["verdict"] == "fault"
    assert "/none" in found(result)["security"]["found"]


def test_in_front_of_triton_servers_they_are_asked_and_nothing_is_executed_here() -> None:
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    ports = [flag for flag in FREE if "port=" in flag]
    flags = ["--engine=triton", f"--triton-url={address}"]
    result = CliRunner().invoke(doctor, ["--json", *ports, *flags])

    assert result.exit_code == 1
    assert found(result)["triton server"]["found"].startswith(f"{address} is unreachable: ")
    assert {"runtime", "repository"}.isdisjoint(found(result))


@pytest.fixture
def hazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a warning."""

    def check(_: Settings) -> Iterator[Finding]:
        yield good("sky", "blue")
        yield warning("view", "hazy", "wait for the wind")

    monkeypatch.setattr(command, "CHECKS", (check,))


@pytest.mark.usefixtures("hazy")
def test_warnings_fail_only_where_they_shall() -> None:
    assert run().exit_code == 0
    assert run("--strict").exit_code == 1


@pytest.mark.usefixtures("hazy")
def test_below_what_is_found_stands_what_to_change() -> None:
    assert run().stdout.splitlines() == [
        "good     sky              blue",
        "warning  view             hazy",
        "                          wait for the wind",
        "1 good, 1 warning",
    ]


def test_findings_are_counted_in_words() -> None:
    findings = [good("sky", "blue"), good("sea", "calm")]
    findings += [Finding(name, Verdict.FAULT, "seen") for name in ("rain", "hail")]

    assert list(command.lines(findings))[-1] == "2 good, 2 faults"


@pytest.mark.parametrize("verdict", Verdict)
def test_the_worst_finding_is_the_verdict(verdict: Verdict) -> None:
    findings = [good("sky", "blue"), Finding("view", verdict, "seen"), good("sea", "calm")]

    assert worst(findings) is verdict


def test_wrong_usage_has_exit_code_2() -> None:
    assert run("--http-port=99999").exit_code == 2


def test_without_a_runtime_the_rest_is_checked_all_the_same(repository: Path) -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import penstock; penstock.main(['doctor', '--json', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *FREE, f"--model-repository={repository}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    findings = {each["check"]: each for each in json.loads(done.stdout)["findings"]}

    assert done.returncode == 1
    assert "pip install 'penstock[cpu]'" in findings["runtime"]["advice"]
    assert findings["threads"]["found"]
