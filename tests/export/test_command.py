import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from export.command import export
from training.checkpoint import Checkpoint

OPTIONS = [option for option in export.params if isinstance(option, click.Option)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_an_export_reports_what_was_proven_and_what_to_do_next(
    trained: Checkpoint, tmp_path: Path
) -> None:
    repository = tmp_path / "my models"

    result = run(trained.folder, "--repository", repository)

    assert (result.exit_code, result.stderr) == (0, "")
    folder = repository / "digits-mlp" / "1"
    proof = json.loads((folder / "passport.json").read_text())
    share = f"{proof['accuracy']['value']:.2%}"
    assert "Compare torch and ONNX Runtime" in result.stdout
    for batch in proof["parity"]["batches"]:
        row = (f"{batch['batch_size']} ", batch["samples"], f"{batch['max_absolute']:.1e}")
        assert [line for line in result.stdout.splitlines() if all(part in line for part in row)]
    assert f"ONNX Runtime {share}" in result.stdout
    assert f"Published  {folder}" in result.stdout
    assert f"penstock serve --model-repository '{repository}'" in result.stdout


@pytest.mark.usefixtures("converted")
def test_a_refusal_is_one_message_and_exit_code_1(
    edited: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = edited(metrics={"test_accuracy": 1.0, "test_n": 355})

    result = run(checkpoint, "--repository", tmp_path / "repository")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ONNX Runtime is right on ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "repository").exists()


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, "--repository", tmp_path / "repository")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path}: no checkpoint here")


@pytest.mark.usefixtures("converted")
def test_a_tolerance_that_is_too_tight_refuses(trained: Checkpoint, tmp_path: Path) -> None:
    tight = ("--absolute-tolerance", "1e-12", "--relative-tolerance", "0")

    result = run(trained.folder, "--repository", tmp_path / "repository", *tight)

    assert result.exit_code == 1
    assert "at most 1e-12 is allowed" in result.stderr
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["/no/such/checkpoint"],
        [".", "--name", "../escaped"],
        [".", "--version", "0"],
        [".", "--max-batch-size", "0"],
        [".", "--opset", "9"],
        [".", "--absolute-tolerance", "0"],
        [".", "--relative-tolerance", "-1"],
        [".", "--data-dir", "/no/such/folder"],
        [],
    ],
    ids=" ".join,
)
def test_a_wrong_use_is_exit_code_2(wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2


def test_a_file_as_the_source_is_told_what_a_source_is() -> None:
    result = run(__file__, "--input", "x:FP32:3")

    assert result.exit_code == 2
    assert "a checkpoint's folder, or package.module:callable" in " ".join(result.output.split())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: str(option.name))
def test_help_states_what_every_option_does_and_its_default(option: click.Option) -> None:
    record: Any = option.get_help_record(click.Context(export))

    assert option.help
    assert "default: " in record[1]


def test_help_does_not_wait_for_torch() -> None:
    probe = (
        "import sys\n"
        "from export.command import export\n"
        "try: export(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'onnx', 'grpc', 'rich')))\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", probe], check=False, cwd=Path(__file__).parents[2], timeout=60
    )

    assert result.returncode == 0
