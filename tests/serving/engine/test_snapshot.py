"""A snapshot of a model's folder changes with what lies in it, and with nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.engine.repository import Repository
from serving.engine.snapshot import Snapshot, take

# Long ago: nothing that a test does happens at the same moment.
LONG_AGO = 1_000_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of two versions with a file beside them, all of them old."""
    folder = tmp_path / "models" / "m"
    for name in ("1/model.onnx", "1/deep/weights", "2/model.onnx", "labels.txt", "config.pbtxt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("# a")
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    return folder


def snapshot(model: Path) -> Snapshot:
    return take(Repository([model.parent]).find(model.name))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def replace(path: Path) -> None:
    """Another file of the same name, size and time."""
    other = path.with_name("other")
    other.write_text("# b")
    os.utime(other, (LONG_AGO, LONG_AGO))
    os.replace(other, path)


VERSION_1: dict[str, Callable[[Path], object]] = {
    "rewritten": lambda model: write(model / "1/model.onnx", "# b"),
    "touched": lambda model: (model / "1/model.onnx").touch(),
    "replaced": lambda model: replace(model / "1/model.onnx"),
    "made readable": lambda model: (model / "1/model.onnx").chmod(0o600),
    "a file more": lambda model: write(model / "1/more", ""),
    "a file less": lambda model: (model / "1/model.onnx").unlink(),
    "further below": lambda model: write(model / "1/deep/weights", "# b"),
}


@pytest.mark.parametrize("change", VERSION_1.values(), ids=VERSION_1.keys())
def test_what_changes_in_a_version_changes_that_version(
    model: Path, change: Callable[[Path], object]
) -> None:
    before = snapshot(model)
    change(model)
    after = snapshot(model)
    assert after != before
    assert after.versions[1] != before.versions[1]
    assert after.versions[2] == before.versions[2]
    assert after.shared == before.shared


OTHERS: dict[str, Callable[[Path], object]] = {
    "a label": lambda model: write(model / "labels.txt", "# b"),
    "the configuration": lambda model: write(model / "config.pbtxt", "# b"),
    "a touch of the configuration": lambda model: (model / "config.pbtxt").touch(),
    "a new version": lambda model: write(model / "3/model.onnx", ""),
    "an empty version": lambda model: (model / "3").mkdir(),
    "no configuration": lambda model: (model / "config.pbtxt").unlink(),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_what_changes_beside_the_versions_is_seen(
    model: Path, change: Callable[[Path], object]
) -> None:
    before = snapshot(model)
    change(model)
    after = snapshot(model)
    assert after != before
    assert after.versions[1] == before.versions[1]


NOTHINGS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda model: None,
    "a hidden file": lambda model: write(model / "1/.nfs01", ""),
    "a hidden folder": lambda model: write(model / ".2/model.onnx", ""),
    "another model": lambda model: write(model.parent / "other/x", ""),
}


@pytest.mark.parametrize("change", NOTHINGS.values(), ids=NOTHINGS.keys())
def test_what_is_not_the_models_is_not_seen(model: Path, change: Callable[[Path], object]) -> None:
    before = snapshot(model)
    change(model)
    assert snapshot(model) == before


def test_links_inside_the_repository_are_followed(model: Path) -> None:
    # So a Kubernetes volume is made: everything is a link into a folder that is swapped.
    for number in (1, 2):
        write(model.parent / f"..{number}/weights", f"# {number}")
    (model.parent / "..data").symlink_to("..1")
    (model / "1/linked").symlink_to("../../..data")
    before = snapshot(model)
    (model.parent / "..new").symlink_to("..2")
    (model.parent / "..new").rename(model.parent / "..data")
    assert snapshot(model).versions[1] != before.versions[1]


def test_links_in_circles_and_out_of_the_repository_are_left(model: Path, tmp_path: Path) -> None:
    (model / "1/up").symlink_to("..")
    (model / "1/self").symlink_to("self")
    (tmp_path / "outside").mkdir()
    (model / "1/out").symlink_to(tmp_path / "outside")
    before = snapshot(model)
    write(tmp_path / "outside/file", "")
    assert snapshot(model) == before
