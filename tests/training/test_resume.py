"""A training run that was killed goes on, and ends as if it never had been."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tests.training.samples import narrow, slice_of
from tests.training.tiny import tiny
from training import loop, state
from training.catalog import RECIPES
from training.checkpoint import RECORD, WEIGHTS, Checkpoint, load
from training.command import train
from training.curve import Epoch
from training.errors import StateError

# Says that it has begun, and waits to be told to go on.
SLOW = """
import sys
from training import command, report
epoch = report.Report.epoch
def wait(self, row):
    epoch(self, row)
    if row.epoch == 2:
        print("begun", file=sys.stderr, flush=True)
        sys.stdin.readline()
report.Report.epoch = wait
command.train()
"""
# Trains until it has heard of so many epochs, and dies on the spot.
KILLED = """
import os, signal, sys
from training import command, report
epoch = report.Report.epoch
def die(self, row):
    epoch(self, row)
    if row.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
report.Report.epoch = die
command.train()
"""


def visible(folder: Path) -> set[str]:
    """What `ls` shows."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


class Killed(BaseException):
    """What no code expects."""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(train, [str(argument) for argument in arguments])


def interrupted(recipe: str, path: Path, after: int = 2, **changes: Any) -> None:
    """Leaves the state of a run behind that ended in the middle of the next epoch."""
    epochs: list[Epoch] = []

    def die() -> None:
        if len(epochs) == after:
            raise Killed

    with pytest.raises(Killed):
        go_on(recipe, path, on_batch=die, on_epoch=epochs.append, **changes)


def go_on(
    recipe: str, path: Path | None, changes: Mapping[str, Any] | None = None, **more: Any
) -> tuple[Checkpoint, nn.Module]:
    changes = {"epochs": 3, "batch_size": 40, "device": "cpu", **(changes or {})}
    config = replace(RECIPES[recipe].config, **changes)
    dataset = slice_of(tiny(RECIPES[recipe].dataset), 80, 20)
    return loop.train(recipe, config, dataset, state=path, **more)


def test_a_run_killed_between_epochs_ends_with_the_same_weights(tmp_path: Path) -> None:
    arguments = ["digits-mlp", "--epochs", "5", "--output", str(tmp_path / "killed")]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert visible(tmp_path) == {"killed" + state.SUFFIX}

    resumed = run(*arguments)
    assert resumed.exit_code == 0, resumed.output
    assert "going on behind epoch 3" in resumed.output
    assert "3/5" not in resumed.output
    assert run("digits-mlp", "--epochs", "5", "--output", tmp_path / "whole").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "whole"}
    one, other = load(tmp_path / "killed"), load(tmp_path / "whole")
    assert one.weights_sha256 == other.weights_sha256
    assert [replace(row, seconds=0) for row in one.history] == [
        replace(row, seconds=0) for row in other.history
    ]


def test_a_second_run_into_one_folder_is_refused_and_costs_the_first_nothing(
    tmp_path: Path,
) -> None:
    output = tmp_path / "new" / "it"
    arguments = ["digits-mlp", "--epochs", "4", "--output", str(output)]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stderr
        assert "begun\n" in iter(first.stderr.readline, "")
        for more in ([], ["--restart"], ["--lr", "0.05"]):
            second = run(*arguments, *more)
            assert second.exit_code == 1
            assert f"{output}: another process trains into it" in second.output
        assert run(*arguments[:3], "--output", output.with_name("other")).exit_code == 0
        _, said = first.communicate("\n", timeout=60)
    assert first.returncode == 0, said
    assert len(load(output).history) == 4
    assert {path.name for path in output.parent.iterdir()} == {"it", "other"}


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("mnist-cnn", {}),  # distorted at random, in channels last
        ("cifar10-resnet", {}),  # alternating, from small to large, with a slow average
        ("mnist-gan", {}),  # two networks, and batch norms that see two kinds of pictures
        ("sst2-gru", {}),  # dropout, batches by length, AdamW
        ("digits-mlp", {"optimizer": "adadelta", "lr": 1.0}),
        ("digits-mlp", {"optimizer": "sgd", "patience": 2}),
    ],
)
def test_whatever_a_run_depends_on_is_kept(
    recipe: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    interrupted(recipe, tmp_path / "state", changes=changes)
    torch.manual_seed(1234)
    _, resumed = go_on(recipe, tmp_path / "state", changes)
    _, whole = go_on(recipe, None, changes)
    one, other = resumed.state_dict(), whole.state_dict()
    assert [name for name in other if not torch.equal(one[name], other[name])] == []


def test_a_run_interrupted_in_an_epoch_repeats_that_epoch_alone(tmp_path: Path) -> None:
    interrupted("digits-mlp", tmp_path / "state")
    before: list[int] = []
    epochs: list[Epoch] = []
    go_on("digits-mlp", tmp_path / "state", on_resume=before.append, on_epoch=epochs.append)
    assert (before, [row.epoch for row in epochs]) == ([2], [3])


def test_a_state_of_all_epochs_needs_no_more(tmp_path: Path) -> None:
    _, whole = go_on("digits-mlp", tmp_path / "state")
    _, again = go_on("digits-mlp", tmp_path / "state", on_batch=pytest.fail)
    assert torch.equal(next(whole.parameters()), next(again.parameters()))


def test_the_seconds_before_the_interruption_count(tmp_path: Path) -> None:
    go_on("digits-mlp", tmp_path / "state")
    rewrite(tmp_path / "state", lambda record: record.update(seconds=1000.0))
    checkpoint, _ = go_on("digits-mlp", tmp_path / "state")
    assert checkpoint.metrics["training_seconds"] > 1000


def test_restart_begins_anew(tmp_path: Path) -> None:
    interrupted("digits-mlp", state.path_for(tmp_path / "new"))
    arguments = ("digits-mlp", "--epochs", "2", "--output", tmp_path / "new")
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "--restart begins anew" in refused.output
    anew = run(*arguments, "--restart")
    assert anew.exit_code == 0, anew.output
    assert "1/2" in anew.output
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / RECORD).exists()
    assert (tmp_path / "new" / WEIGHTS).exists()


@pytest.mark.parametrize(
    ("recipe", "changes", "difference"),
    [
        ("digits-mlp", {"lr": 0.05}, "config.lr is 0.1 there and 0.05 here"),
        ("digits-mlp", {"seed": 7}, "config.seed is 0 there and 7 here"),
        ("binary-mlp", {}, "recipe is digits-mlp there and binary-mlp here"),
    ],
)
def test_the_state_of_another_run_is_refused(
    recipe: str, changes: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    interrupted("digits-mlp", tmp_path / "state")
    with pytest.raises(StateError, match=rf"another run: .*{difference}"):
        go_on(recipe, tmp_path / "state", changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [("dataset", {"name": "digits", "sha256": "0" * 64}), ("code_sha256", "0" * 64)],
)
def test_other_data_and_other_code_are_another_run(
    name: str, value: object, tmp_path: Path
) -> None:
    interrupted("digits-mlp", tmp_path / "state")
    rewrite(tmp_path / "state", lambda record: record["identity"].update({name: value}))
    with pytest.raises(StateError, match=rf"another run: {name}[.\w]* is 0000"):
        go_on("digits-mlp", tmp_path / "state")


@pytest.mark.parametrize("place", [0, 300, -1])
def test_a_damaged_state_is_refused(place: int, tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted("digits-mlp", path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError, match=r"state: .*--restart begins anew"):
        go_on("digits-mlp", path)


@pytest.mark.parametrize("content", [b"", b"no state", b"\x80\x04."])
def test_a_file_that_is_no_state_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(StateError, match="cannot be read"):
        go_on("digits-mlp", tmp_path / "state")


def test_the_weights_of_something_else_are_no_state(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "state")
    with pytest.raises(StateError, match="not the state of a training run"):
        go_on("digits-mlp", tmp_path / "state")


def test_a_state_that_fails_to_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    interrupted("digits-mlp", path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        go_on("digits-mlp", path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_locks_keeps_nobody_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    done = run("digits-mlp", "--epochs", "1", "--output", tmp_path / "it")
    assert done.exit_code == 0, done.output


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As if another version had written it, whole and well."""
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(record)
    text = json.dumps(record)
    digest = state._digest(text, tensors)
    save_file(tensors, path, {"schema": state.SCHEMA, "record": text, "sha256": digest})
