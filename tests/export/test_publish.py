import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import model_config, publish
from export.errors import Incompatible, InvalidName, PublishFailed, VersionExists
from export.publish import Model
from serving import passport
from serving.passport import (
    AccuracyProof,
    BatchParity,
    DatasetProof,
    ParityProof,
    Passport,
    file_sha256,
)
from training.spec import TensorField, classifier

SIGNATURE = classifier(TensorField("features", "FP32", (64,)), 2)
FILES = {"model.onnx": b"a graph"}


def model(repository: Path, rows: int = 64, labels: tuple[str, ...] = ("no", "yes")) -> Model:
    return Model(repository, model_config.build("answers", SIGNATURE, rows), labels)


def seal(version: int, files: dict[str, str]) -> Passport:
    return Passport(
        model="answers",
        version=version,
        files=files,
        weights_sha256="0" * 64,
        architecture="mlp",
        parameters=1,
        recipe="answers",
        seed=0,
        dataset=DatasetProof(name="answers", sha256="0" * 64),
        accuracy=AccuracyProof(value=1, n=1, checkpoint=1),
        parity=ParityProof(
            absolute_tolerance=1e-4,
            relative_tolerance=0,
            batches=(BatchParity(batch_size=1, samples="real", max_absolute=0, max_relative=0),),
        ),
        opset=18,
        created="2026-01-01T00:00:00+00:00",
        versions={},
    )


def put(repository: Path, version: int | None = None, **changes: Any) -> Path:
    return publish.publish(model(repository, **changes), FILES, seal, version)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_first_export_makes_the_model_and_its_version(tmp_path: Path) -> None:
    folder = put(tmp_path / "new" / "repository")

    assert folder == tmp_path / "new" / "repository" / "answers" / "1"
    assert names(folder) == {"model.onnx", "passport.json"}
    assert names(folder.parent) == {"1", "config.pbtxt", "labels.txt"}
    assert (folder / "model.onnx").read_bytes() == b"a graph"
    assert (folder.parent / "labels.txt").read_text() == "no\nyes\n"
    written = model_config.read(folder.parent / "config.pbtxt")
    assert written == model(tmp_path).config


def test_the_passport_vouches_for_every_file_of_the_version(tmp_path: Path) -> None:
    folder = put(tmp_path)

    read = passport.read(folder / "passport.json")
    assert read.version == 1
    assert read.files == {"model.onnx": file_sha256(folder / "model.onnx")}
    assert read.labels_sha256 == file_sha256(folder.parent / "labels.txt")
    assert passport.mismatches(read, folder) == []


def test_the_passport_vouches_for_the_labels_of_a_model_that_has_them(tmp_path: Path) -> None:
    folder = put(tmp_path)
    labels = folder.parent / "labels.txt"
    # As an editor of another system saves them: an export takes them, for they are the same.
    labels.write_bytes(b"no\r\nyes")
    second = put(tmp_path)
    assert passport.mismatches(passport.read(second / "passport.json"), second) == []

    labels.write_text("yes\nno\n")
    [fault] = passport.mismatches(passport.read(folder / "passport.json"), folder)
    assert fault.startswith("labels.txt: SHA-256 is ")
    labels.unlink()
    [fault] = passport.mismatches(passport.read(folder / "passport.json"), folder)
    assert fault == "labels.txt: the passport vouches for it, but the file is missing"

    plain = put(tmp_path / "other", labels=())
    assert passport.read(plain / "passport.json").labels_sha256 is None


def test_a_version_can_be_read_by_whoever_runs_the_server(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        folder = put(tmp_path)
    finally:
        os.umask(umask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {"1": 0o755, "model.onnx": 0o644, "passport.json": 0o644}


def test_later_exports_take_the_next_number_and_keep_the_persons_edits(tmp_path: Path) -> None:
    put(tmp_path)
    config = tmp_path / "answers" / "config.pbtxt"
    edited = config.read_text() + "instance_group { count: 2 kind: KIND_CPU }\n"
    config.write_text(edited)

    assert put(tmp_path).name == "2"
    assert put(tmp_path, version=7).name == "7"
    assert put(tmp_path).name == "8"
    assert config.read_text() == edited


@given(taken=st.sets(st.integers(1, 30)), noise=st.sets(st.sampled_from(["1a", ".9", "v3", "²"])))
def test_the_next_version_is_above_all_that_are_there(
    tmp_path_factory: pytest.TempPathFactory, taken: set[int], noise: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("versions")
    for name in (*map(str, taken), *noise):
        (folder / name).mkdir()

    assert publish.next_version(folder) == max(taken, default=0) + 1


def test_a_published_version_is_never_overwritten(
    tmp_path: Path, tree: Callable[[Path], Any]
) -> None:
    put(tmp_path)
    before = tree(tmp_path)

    with pytest.raises(VersionExists, match="next free one is 2"):
        put(tmp_path, version=1)

    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": 32}, "max_batch_size is 64, but this model needs 32"),
        ({"labels": ("yes", "no")}, "holds other labels: no, yes; those of this model are yes, no"),
    ],
)
def test_a_model_that_does_not_fit_its_folder_is_refused(
    tmp_path: Path, tree: Callable[[Path], Any], changes: dict[str, Any], named: str
) -> None:
    put(tmp_path)
    before = tree(tmp_path)

    with pytest.raises(Incompatible, match=named):
        put(tmp_path, **changes)

    assert tree(tmp_path) == before


@given(labels=st.lists(st.text(st.characters()), min_size=1, max_size=3))
def test_labels_read_back_as_they_were_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str]
) -> None:
    repository = tmp_path_factory.mktemp("repository")

    try:
        folder = put(repository, labels=tuple(labels))
    except Incompatible:
        assert not all(label and label.isprintable() for label in labels)
    else:
        assert (folder.parent / "labels.txt").read_text("utf-8").splitlines() == labels


@given(name=st.text() | st.from_regex(r"[./A-Za-z0-9_-]+", fullmatch=True))
def test_a_name_is_one_visible_folder_of_the_repository_or_refused(name: str) -> None:
    try:
        publish.check_name(name)
    except InvalidName:
        return
    assert Path("repository", name).resolve().parent == Path("repository").resolve()
    assert not name.startswith(".")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a\n", "ü", "-v"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        publish.check_name(name)


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("before", ["nothing", "a version"])
def test_an_interrupt_leaves_the_repository_as_it_was(
    tmp_path: Path, tree: Callable[[Path], Any], before: str
) -> None:
    if before == "a version":
        put(tmp_path)
    unchanged = tree(tmp_path)

    def interrupted(version: int, files: dict[str, str]) -> Passport:
        raise Interrupted

    with pytest.raises(Interrupted):
        publish.publish(model(tmp_path), FILES, interrupted, None)

    assert tree(tmp_path) == unchanged


def test_a_full_disk_at_the_last_step_leaves_nothing_and_says_why(
    tmp_path: Path, tree: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr(Path, "rename", full)

    with pytest.raises(PublishFailed, match="No space left on device"):
        put(tmp_path / "repository")

    assert tree(tmp_path) == {}


def test_of_a_version_that_is_there_nobody_is_told_that_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sync = model(tmp_path).folder, os.fsync

    def broken(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve() == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)

    with pytest.raises(PublishFailed, match=r"/1: is in its place, but .*Input/output error"):
        put(tmp_path)

    assert (folder / "1").is_dir()


def test_a_repository_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PublishFailed, match="file"):
        put(tmp_path / "file")


def test_nothing_that_a_server_would_take_for_a_version_exists_before_it_is_whole(
    tmp_path: Path,
) -> None:
    seen: list[set[str]] = []

    def looking(version: int, files: dict[str, str]) -> Passport:
        seen.append(names(tmp_path))
        seen.append({name for name in names(tmp_path / "answers") if not name.startswith(".")})
        return seal(version, files)

    publish.publish(model(tmp_path), FILES, looking, None)

    assert seen == [{"answers"}, {"config.pbtxt", "labels.txt"}]


KILLED = """\
import os, signal, sys
from pathlib import Path
from export import publish
from tests.export.test_publish import FILES, model

def killed(version, files):
    os.kill(os.getpid(), signal.SIGKILL)

publish.publish(model(Path(sys.argv[1])), FILES, killed, None)
"""


def test_a_killed_export_leaves_no_version_and_does_not_hinder_the_next(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )

    assert ended.returncode == -signal.SIGKILL
    visible = {name for name in names(tmp_path / "answers") if not name.startswith(".")}
    assert visible == {"config.pbtxt", "labels.txt"}
    assert put(tmp_path).name == "1"


def test_exports_at_the_same_time_each_get_a_version_of_their_own(tmp_path: Path) -> None:
    exporters = 6
    together = Barrier(exporters, timeout=30)

    def run(index: int) -> Path:
        asked: list[int] = []

        def meet(version: int, files: dict[str, str]) -> Passport:
            if not asked:
                together.wait()  # all hold the number 1 now
            asked.append(version)
            return seal(version, files)

        data = f"graph {index}".encode()
        return publish.publish(model(tmp_path), {"model.onnx": data}, meet, None)

    with ThreadPoolExecutor(exporters) as pool:
        folders = list(pool.map(run, range(exporters)))

    assert sorted(int(folder.name) for folder in folders) == list(range(1, exporters + 1))
    for index, folder in enumerate(folders):
        assert (folder / "model.onnx").read_bytes() == f"graph {index}".encode()
        read = passport.read(folder / "passport.json")
        assert read.version == int(folder.name)
        assert passport.mismatches(read, folder) == []
    versions = {str(number) for number in range(1, exporters + 1)}
    assert names(tmp_path / "answers") == versions | {"config.pbtxt", "labels.txt"}


def test_of_two_first_exports_that_do_not_fit_together_the_second_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        put(tmp_path, rows=32)
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)

    with pytest.raises(Incompatible, match="max_batch_size is 32, but this model needs 64"):
        put(tmp_path)

    assert names(tmp_path / "answers") == {"1", "config.pbtxt", "labels.txt"}
    written = model_config.read(tmp_path / "answers" / "config.pbtxt")
    assert written is not None
    assert written.max_batch_size == 32


def test_an_export_that_asked_for_a_number_is_refused_if_it_is_overtaken(tmp_path: Path) -> None:
    def overtaken(version: int, files: dict[str, str]) -> Passport:
        put(tmp_path)
        return seal(version, files)

    with pytest.raises(VersionExists):
        publish.publish(model(tmp_path), FILES, overtaken, 1)

    assert names(tmp_path / "answers") == {"1", "config.pbtxt", "labels.txt"}
