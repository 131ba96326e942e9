"""`penstock config`, as a person at the terminal meets it."""

import resource
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from serving.config import parse
from serving.config_command import config
from serving.dtypes import Datatype
from tests.serving.graphs import model, write

FP32 = Datatype.FP32


def run(*arguments: object) -> Result:
    return CliRunner().invoke(config, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = model({"x": (FP32, ["batch", "length"])}, {"y": (FP32, ["batch", 2])})
    return write(made, tmp_path / "resnet.onnx")


def test_it_prints_a_configuration_and_nothing_else(file: Path) -> None:
    result = run(file)

    assert (result.exit_code, result.stderr) == (0, "")
    proto = parse(result.stdout, "printed")
    assert (proto.name, proto.default_model_filename) == ("resnet", "resnet.onnx")
    assert (proto.max_batch_size, list(proto.input[0].dims)) == (4, [-1])
    assert '# -1 is any size: "length"' in result.stdout


def test_options_change_the_configuration(file: Path) -> None:
    proto = parse(run(file, "--name", "mine", "--max-batch-size", 16).stdout, "printed")

    assert (proto.name, proto.max_batch_size) == ("mine", 16)


def test_a_file_in_a_repository_is_named_by_its_folder(file: Path) -> None:
    (file.parent / "net/3").mkdir(parents=True)
    moved = file.rename(file.parent / "net/3/model.onnx")

    assert parse(run(moved).stdout, "printed").name == "net"


def test_half_a_configuration_is_not_left_behind_by_a_full_disk(file: Path) -> None:
    output = file.parent / "config.pbtxt"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        result = run(file, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (result.exit_code, output.exists()) == (1, False)
    assert result.stderr == f"Error: {output}: cannot be written: File too large\n"


def test_a_configuration_is_named_by_the_folder_it_is_written_into(file: Path) -> None:
    output = file.parent / "net/config.pbtxt"
    output.parent.mkdir()

    result = run(file, "--output", output)

    assert (result.exit_code, result.output) == (0, "")
    assert parse(output.read_text(), "written").name == "net"


def test_an_existing_file_is_kept_unless_forced(file: Path) -> None:
    output = file.parent / "config.pbtxt"
    output.write_text("# by hand\n")

    refused = run(file, "--output", output)

    assert refused.exit_code == 1
    assert f"{output} exists; --force replaces it" in refused.stderr
    assert output.read_text() == "# by hand\n"
    assert run(file, "--output", output, "--force").exit_code == 0
    assert "max_batch_size: 4" in output.read_text()


def test_what_cannot_be_written_is_said(file: Path) -> None:
    result = run(file, "--output", file.parent / "none/config.pbtxt")

    assert result.exit_code == 1
    assert "none/config.pbtxt: cannot be written: No such file or directory" in result.stderr


def test_a_file_that_is_no_model_is_refused(file: Path) -> None:
    file.write_bytes(b"text")

    result = run(file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}: ONNX Runtime" in result.stderr
    assert "it is no ONNX model" in result.stderr


def test_a_batch_size_that_the_graph_cannot_have_is_refused(tmp_path: Path) -> None:
    file = write(model({"x": (FP32, [1, 2])}, {"y": (FP32, [1, 2])}), tmp_path / "m.onnx")

    result = run(file, "--max-batch-size", 8)

    assert result.exit_code == 1
    assert "the graph gives 'x' the shape [1,2], whose first dimension is not" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "Missing argument 'MODEL'"),
        (["none.onnx"], "does not exist"),
        (["FILE", "--max-batch-size", "-1"], "not in the range"),
        (["FILE", "--name", "a/b"], "'a/b' cannot be a model's name"),
    ],
)
def test_wrong_usage_is_told_apart(file: Path, arguments: list[str], reason: str) -> None:
    result = run(*(str(file) if argument == "FILE" else argument for argument in arguments))

    assert result.exit_code == 2
    assert reason in result.stderr


def test_every_option_states_its_default() -> None:
    options = [option for option in config.params if isinstance(option, click.Option)]

    assert [option.name for option in options if "[default: " not in (option.help or "")] == []
    assert len(options) == 4
