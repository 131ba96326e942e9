"""A checkpoint says all about its model, rebuilds it, and is never half there."""

import hashlib
import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.training.samples import save_digits
from training import checkpoint as checkpoints
from training.checkpoint import CURVE, RECORD, WEIGHTS, Checkpoint, load, save
from training.errors import CheckpointError
from training.normalise import Normalise


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, nn.Module]:
    return save_digits(tmp_path_factory.mktemp("original") / "digits")


@pytest.fixture
def folder(original: tuple[Checkpoint, nn.Module], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(original[0].folder, tmp_path / "digits"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / RECORD).read_text())
    change(document)
    (folder / RECORD).write_text(json.dumps(document))


def test_what_was_saved_is_loaded(original: tuple[Checkpoint, nn.Module]) -> None:
    assert load(Path(original[0].folder)) == original[0]


def test_it_rebuilds_its_model(original: tuple[Checkpoint, nn.Module]) -> None:
    checkpoint, model = original
    rebuilt = checkpoint.build()
    assert not rebuilt.training
    x = torch.randn(7, 64)
    assert torch.equal(rebuilt(x), model(x))


def test_its_folder_may_be_moved(folder: Path) -> None:
    load(folder.rename(folder.parent / "elsewhere")).build()


def test_it_lies_in_three_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {RECORD, WEIGHTS, CURVE}


def test_the_curve_is_a_png(folder: Path) -> None:
    assert (folder / CURVE).read_bytes().startswith(b"\x89PNG\r\n")


def test_it_says_where_it_comes_from(original: tuple[Checkpoint, nn.Module]) -> None:
    checkpoint = original[0]
    assert checkpoint.recipe == "digits-mlp"
    assert checkpoint.seed == 0
    assert checkpoint.dataset_name == "digits"
    assert len(checkpoint.dataset_sha256) == 64
    assert checkpoint.metrics["test_n"] == 100
    assert set(checkpoint.versions) == {"python", "torch", "numpy"}


def test_the_normalisation_is_the_stated_formula(original: tuple[Checkpoint, nn.Module]) -> None:
    by = replace(original[0].normalisation, scale=0.5, mean=(1.0, 2.0), std=(4.0, 8.0))
    x = torch.full((1, 2, 1, 1), 6, dtype=torch.uint8)
    assert Normalise(by)(x).flatten().tolist() == [0.5, 0.125]


def test_it_replaces_an_older_checkpoint(folder: Path) -> None:
    replacement, _ = save_digits(folder, seed=1)
    assert load(folder) == replacement
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]


def test_it_replaces_no_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CheckpointError, match=r"thesis\.tex.*--output"):
        save_digits(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("interruption", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_older_checkpoint(
    folder: Path,
    original: tuple[Checkpoint, nn.Module],
    interruption: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = load(folder)

    def fail(*_: object) -> bytes:
        raise interruption

    monkeypatch.setattr(checkpoints, "draw", fail)
    with pytest.raises((CheckpointError, KeyboardInterrupt)):
        save(folder, *original)
    assert load(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]


def test_a_failed_swap_puts_the_older_checkpoint_back(
    folder: Path, original: tuple[Checkpoint, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = load(folder), Path.rename

    def refuse_the_draft(path: Path, target: Path) -> Path:
        if "draft" in path.name:
            raise OSError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_draft)
    with pytest.raises(CheckpointError, match="Permission denied"):
        save(folder, *original)
    assert load(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]


@pytest.mark.parametrize("behind_the_first", [False, True])
def test_a_save_after_one_that_was_killed_takes_away_what_that_left(
    folder: Path,
    original: tuple[Checkpoint, nn.Module],
    behind_the_first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a process of the same number, as in a container that was started anew; of two renames."""
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        rename = Path.rename

        def die(path: Path, target: Path) -> Path:
            if behind_the_first and path == folder:
                rename(path, target)
            raise KeyboardInterrupt

        killed.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            save(folder, *original)

    save(folder, *original)

    assert load(folder).recipe == "digits-mlp"
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]


def test_all_of_it_is_on_the_disk_before_it_is_there(
    original: tuple[Checkpoint, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def renamed(path: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    save(tmp_path / "new", *original)
    assert {*done[:3]} == {RECORD, WEIGHTS, CURVE}
    assert done[3].startswith(".new.draft")
    assert done[4:] == ["renamed", tmp_path.name]


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint here.*penstock train"):
        load(tmp_path)


def test_an_unknown_schema_is_refused(folder: Path) -> None:
    edit(folder, lambda document: document.update(schema="penstock.checkpoint/2"))
    with pytest.raises(CheckpointError, match=r"checkpoint/2.*reads penstock\.checkpoint/1"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_record_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / RECORD).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.pop("labels"), "labels is missing"),
        (lambda d: d.update(colour="red"), "colour is not a known field"),
        (lambda d: d.update(recipe=None), "recipe must be str, not null"),
        (lambda d: d["config"].update(epochs="8"), "config.epochs must be int, not str '8'"),
        (lambda d: d["config"].update(epochs=True), "config.epochs must be int, not bool True"),
        (lambda d: d["config"].update(epochs=0), "epochs must be at least 1, not 0"),
        (
            lambda d: d["signature"]["outputs"][1].update(shape=["x"]),
            r"signature.outputs\[1\].shape\[0\] must be int",
        ),
        (lambda d: d["metrics"].update(test_n="many"), "metrics.test_n must be"),
    ],
)
def test_a_damaged_field_is_named(
    folder: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    edit(folder, change)
    with pytest.raises(CheckpointError, match=complaint):
        load(folder)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=50,
)
@given(data=st.data())
def test_whatever_a_field_holds_only_a_checkpoint_error_comes_of_it(
    folder: Path, original: tuple[Checkpoint, nn.Module], data: st.DataObject
) -> None:
    shutil.copy(Path(original[0].folder, RECORD), folder)
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
    names = sorted(json.loads((folder / RECORD).read_text()))
    name, value = data.draw(st.sampled_from(names)), data.draw(anything)
    edit(folder, lambda document: document.update({name: value}))
    with suppress(CheckpointError):
        load(folder).build()


def test_absent_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: cannot be read"):
        load(folder).build()


def test_altered_weights_are_refused(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match="corrupt, or of another checkpoint"):
        load(folder).build()


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    edit(folder, lambda document: document["architecture_config"].update(hidden=7))
    with pytest.raises(CheckpointError, match="does not fit the architecture"):
        load(folder).build()


def test_a_part_that_the_network_has_not_is_refused(folder: Path) -> None:
    edit(folder, lambda document: document.update(part="decoder"))
    with pytest.raises(CheckpointError, match=r"does not fit the architecture .*: .*`decoder`"):
        load(folder).build()


def test_an_unknown_architecture_is_answered_with_the_known_ones(folder: Path) -> None:
    edit(folder, lambda document: document.update(architecture="resnet"))
    with pytest.raises(CheckpointError, match=r"'resnet'; there are: .*cnn.*mlp"):
        load(folder).build()


def test_a_pickle_in_the_place_of_the_weights_is_never_loaded(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return pytest.fail, ("a pickle was loaded",)

    data = pickle.dumps(Trap())
    (folder / WEIGHTS).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(folder, lambda document: document.update(weights_sha256=digest))
    with pytest.raises(CheckpointError, match="does not fit"):
        load(folder).build()


def test_a_metric_that_is_no_number_is_not_written(
    original: tuple[Checkpoint, nn.Module], tmp_path: Path
) -> None:
    checkpoint, model = original
    with pytest.raises(ValueError, match="nan"):
        save(tmp_path / "new", replace(checkpoint, metrics={"test_loss": math.nan}), model)
    assert list(tmp_path.iterdir()) == []
