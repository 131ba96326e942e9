"""`penstock train`, as a person at the terminal meets it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from training.catalog import RECIPES
from training.checkpoint import load
from training.command import train
from training.state import SUFFIX

COMMAND = "from training.command import train; train()"


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(train, [str(argument) for argument in arguments], env=env)


def test_it_trains_and_says_what_comes_next(tmp_path: Path) -> None:
    result = run("digits-mlp", "--epochs", "2", "--seed", "3", "--output", tmp_path / "new")
    assert result.exit_code == 0, result.output
    checkpoint = load(tmp_path / "new")
    assert (checkpoint.config.epochs, checkpoint.seed) == (2, 3)
    assert "2/2" in result.output
    assert f"{100 * checkpoint.metrics['test_accuracy']:.2f} % of 355 test samples" in result.output
    assert result.output.rstrip().endswith(f"penstock export {tmp_path / 'new'}")


def test_a_name_that_would_be_markup_or_several_words_is_told_as_it_is(tmp_path: Path) -> None:
    output = tmp_path / "[bold]my[" / "run]"
    result = run("digits-mlp", "--epochs", "1", "--output", output)
    assert result.exit_code == 0, result.output
    assert f"checkpoint  {output}\n" in result.output
    assert result.output.rstrip().endswith(f"penstock export '{output}'")


def test_options_change_the_recipe(tmp_path: Path) -> None:
    options = ("--epochs", "1", "--batch-size", "500", "--lr", "0.01", "--device", "cpu")
    assert run("digits-mlp", *options, "--output", tmp_path / "new").exit_code == 0
    config = load(tmp_path / "new").config
    assert (config.batch_size, config.lr, config.device) == (500, 0.01, "cpu")


def test_the_craft_is_chosen_by_name_and_recorded(tmp_path: Path) -> None:
    options = ("--optimizer", "rmsprop", "--init", "he", "--activation", "elu")
    more = ("--schedule", "linear", "--clip-norm", "1", "--clip-value", "0.5", "--epochs", "1")
    assert run("digits-mlp", *options, *more, "--output", tmp_path / "new").exit_code == 0
    checkpoint = load(tmp_path / "new")
    config = checkpoint.config
    assert (config.optimizer, config.init, config.schedule) == ("rmsprop", "he", "linear")
    assert (config.lr, config.clip_norm, config.clip_value) == (0.001, 1, 0.5)
    assert checkpoint.architecture_config["activation"] == "elu"
    checkpoint.build()


def test_an_activation_for_a_recipe_that_has_none_is_a_usage_error() -> None:
    result = run("ett-lstm", "--activation", "relu")
    assert result.exit_code == 2
    assert "--activation" in result.output


def test_the_output_defaults_to_the_recipe_s_folder_in_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("digits-mlp", "--epochs", "1").exit_code == 0
    assert load(Path("runs/digits-mlp")).recipe == "digits-mlp"


def test_help_states_every_default() -> None:
    lines = run("--help").output.splitlines()
    for name, recipe in RECIPES.items():
        row = next(line.split() for line in lines if line.split()[:1] == [name])
        config = recipe.config
        assert row[1:4] == [f"{config.epochs}", f"{config.batch_size}", f"{config.lr:g}"]
    for option in (parameter for parameter in train.params if isinstance(parameter, click.Option)):
        _, text = option.get_help_record(click.Context(train)) or ("", "")
        assert "default: " in text, option.name


def test_a_patience_ends_training_early_with_the_best_weights(tmp_path: Path) -> None:
    options = ("--patience", "2", "--schedule", "constant", "--epochs", "200")
    result = run("digits-mlp", *options, "--output", tmp_path / "new")
    assert result.exit_code == 0, result.output
    checkpoint = load(tmp_path / "new")
    best = checkpoint.history[int(checkpoint.metrics["best_epoch"]) - 1]
    assert checkpoint.history[-1].epoch == best.epoch + 2 < 200
    assert checkpoint.metrics["test_accuracy"] == best.test_accuracy
    assert f"kept the weights of epoch {best.epoch}" in result.output


@pytest.mark.parametrize("options", [("--precision", "bf16"), ("--compile",)])
def test_what_only_makes_sense_on_a_gpu_is_refused_without_one(options: tuple[str, ...]) -> None:
    result = run("digits-mlp", *options, "--device", "cpu")
    assert result.exit_code == 1
    assert f"Error: {' '.join(options)} needs a GPU: " in result.output


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    result = run("mnist-rnn")
    assert result.exit_code == 2
    assert all(name in result.output for name in RECIPES)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--epochs", "0"),
        ("--epochs", "many"),
        ("--batch-size", "1"),
        ("--lr", "-0.1"),
        ("--lr", "0"),
        ("--lr", "nan"),
        ("--lr", "inf"),
        ("--seed", "-1"),
        ("--seed", str(2**63)),
        ("--device", "tpu"),
        ("--data-dir", "/no/such/folder"),
    ],
)
def test_a_bad_value_is_a_usage_error(option: str, value: str) -> None:
    result = run("digits-mlp", option, value)
    assert result.exit_code == 2
    assert option.strip("-") in result.output.replace("_", "-")


def test_a_corrupt_data_file_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    corrupt = tmp_path / "train-images-idx3-ubyte.gz"
    corrupt.write_bytes(b"no images")
    result = run("mnist-mlp", "--output", tmp_path / "new", env={"PENSTOCK_DATA": str(tmp_path)})
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {corrupt}: corrupt")
    assert not (tmp_path / "new").exists()


def test_an_output_in_the_way_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    result = run("digits-mlp", "--output", tmp_path)
    assert result.exit_code == 1
    assert "thesis.tex" in result.output
    assert "train loss" not in result.output


def test_an_output_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("digits-mlp", "--output", tmp_path / "file" / "new")
    assert result.exit_code == 1
    assert f"{tmp_path / 'file'} cannot be written into" in result.output
    assert "train loss" not in result.output


def test_an_output_that_cannot_be_looked_at_is_refused_before_training(tmp_path: Path) -> None:
    result = run("digits-mlp", "--output", tmp_path / ("long" * 100))

    assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert "cannot be looked at (File name too long)" in result.output
    assert "train loss" not in result.output


def test_a_run_that_diverges_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    result = run("digits-mlp", "--lr", "1e30", "--output", tmp_path / "new")
    assert result.exit_code == 1
    assert "Error: the loss became" in result.output
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_what_to_go_on_from(tmp_path: Path) -> None:
    arguments = ["digits-mlp", "--epochs", "1000000", "--output", str(tmp_path / "new")]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "1/1000000" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert "The same command goes on" in errors
    assert "Aborted!" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["new" + SUFFIX]


def test_help_does_not_wait_for_torch() -> None:
    check = "import sys, training.command; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
