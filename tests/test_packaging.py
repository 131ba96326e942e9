"""What is installed: every package, serving without torch, extras that name what they bring."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for top in ("training", "export", "serving")
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found


def test_every_file_that_is_no_module_is_installed_as_well() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        for path in (ROOT / package.replace(".", "/")).iterdir():
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                wanted = (*patterns["*"], *patterns.get(package, ()))
                assert any(path.match(pattern) for pattern in wanted), path


def test_serving_needs_neither_torch_nor_a_runtime_of_its_own_choice() -> None:
    names = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert not names & {"torch", "onnxruntime", "onnxruntime-gpu", "onnx", "matplotlib"}


def test_torch_is_bounded_above() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    torch = next(r for r in map(Requirement, extras["train"]) if r.name == "torch")
    assert "2.13.0" in torch.specifier
    assert "2.14.0" not in torch.specifier


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["search"],
        ["export"],
        ["import"],
        ["validate"],
        ["doctor"],
        ["config"],
        ["serve"],
        ["bench"],
    ],
)
def test_help_is_printed_without_importing_torch(command: list[str]) -> None:
    program = (
        "import sys, penstock\n"
        "try: penstock.main([*sys.argv[1:], '--help'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage:")


def test_an_output_on_a_full_disk_is_told_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "penstock", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    told = "Error: the output: cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_characters_that_the_output_cannot_spell_are_replaced() -> None:
    program = (
        "import penstock, rich.console\n"
        "show = lambda *_: rich.console.Console().print('Publish …')\n"
        "penstock.main.params[0].callback = show\n"
        "penstock.main(['--version'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert b"Publish ?" in done.stdout, done.stderr


def test_without_an_onnx_runtime_serving_names_the_extra_to_install() -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import penstock; penstock.main(sys.argv[1:])"
    )
    repository = ROOT / "model_repository"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "serve",
            f"--model-repository={repository}",
            *(f"--{name}-port=0" for name in ("http", "grpc", "metrics")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "pip install 'penstock[cpu]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_models_are_checked_without_torch_and_onnx() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import penstock; penstock.main(['validate', sys.argv[1], '--strict'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ROOT / "model_repository"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_whose_extra_is_missing_names_it() -> None:
    program = (
        "import sys; sys.modules['rich'] = None\n"
        "import penstock; penstock.main(['train', 'digits-mlp'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "pip install 'penstock[train]'" in done.stderr
