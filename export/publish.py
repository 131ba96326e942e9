"""A version's place in a model repository, taken in one step or not at all.

<repository>/<name>/config.pbtxt    written by the first export, kept by later ones
                    labels.txt      likewise; one label a line
                    <version>/      model.onnx and passport.json

A version is built in a hidden folder beside its place and becomes visible by one rename. No
server takes the hidden folder for a version, since its name is no number; it lies within the
model's folder because Triton does take any folder of a repository for a model, hidden or not.
An export that is killed can leave such a folder behind, and for a new model its config.pbtxt and
labels.txt without a version; the next export goes on from there.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from uuid import uuid4

from export import model_config
from export.errors import Incompatible, InvalidName, PublishFailed, VersionExists
from serving import passport
from serving.config import Proto
from serving.passport import Passport
from training import durable

_TOKENIZER: Final = "tokenizer.json"  # beside a model of texts, and no part of it
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# What a version holds by its path in there: the bytes, or where to copy them from.
Files: TypeAlias = Mapping[str, bytes | Path]
# The passport of a version, from its number and the SHA-256 of its files by name.
Seal: TypeAlias = Callable[[int, dict[str, str]], Passport]


@dataclass(frozen=True, slots=True)
class Model:
    """What all versions of a model share; there may be no labels. `text` is what a new model gets
    as its config.pbtxt, where that says more than `config`."""

    repository: Path
    config: Proto
    labels: tuple[str, ...] = ()
    text: str = ""

    @property
    def folder(self) -> Path:
        return self.repository / str(self.config.name)

    @property
    def config_text(self) -> str:
        return self.text or model_config.render(self.config)

    @property
    def label_text(self) -> str:
        return "".join(f"{label}\n" for label in self.labels)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A precision that is not published, and why."""

    precision: str
    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """A version in its place; `size` is that of its model's files in bytes. `variants` are the
    models of other precisions, and the engines, that were published beside it, or why they were
    not."""

    folder: Path
    passport: Passport
    variants: "tuple[Published | Dropped, ...]" = ()

    @property
    def size(self) -> int:
        files = self.passport.files.keys() - {_TOKENIZER}
        return sum((self.folder / name).stat().st_size for name in files)


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} cannot be a model's name: letters, digits, dots, underscores and hyphens "
            "only, the first one a letter or a digit; give another by --name"
        )


def check_version(folder: Path, version: int | None) -> None:
    """VersionExists if a model's folder has it already."""
    if version is not None and (folder / str(version)).exists():
        raise VersionExists(
            f"{folder / str(version)}: exists, and a published version is never overwritten; the "
            f"next free one is {next_version(folder)}"
        )


def check(model: Model, version: int | None) -> None:
    """Raises PublishFailed if the repository as it is now cannot take this version."""
    check_name(model.config.name)
    check_version(model.folder, version)
    path = model.folder / model_config.FILENAME
    existing = model_config.read(path)
    if existing is not None and (faults := model_config.differences(existing, model.config)):
        raise Incompatible(
            f"{path}: describes another model: {'; '.join(faults)}. "
            "Export under another --name, or change the file."
        )
    _check_labels(model)


def _check_labels(model: Model) -> None:
    if broken := [label for label in model.labels if not is_label(label)]:
        raise Incompatible(f"the label {broken[0]!r} does not fit on one line of a label file")
    path = model.folder / model_config.LABELS
    try:
        found = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise Incompatible(f"{path}: cannot be read as a label file: {error}") from error
    if found != list(model.labels):
        raise Incompatible(
            f"{path}: holds other labels: {', '.join(found)}; "
            f"those of this model are {', '.join(model.labels)}"
        )


def is_label(label: str) -> bool:
    """Whether it is one line of a label file."""
    readable = label.encode(errors="replace").decode()  # unlike half of a surrogate pair
    return readable.splitlines() == [label]


def publish(model: Model, files: Files, seal: Seal, version: int | None) -> Path:
    """The folder of the new version, by default the next free one.

    On any error before it is there, and on an interrupt, the repository is left as it was. Two
    exports may run at once: each gets a number of its own. Raises PublishFailed.
    """
    try:
        with ExitStack() as undo:
            place = _publish(model, files, seal, version, undo)
            undo.pop_all()
    except OSError as error:
        where = error.filename or model.folder
        raise PublishFailed(f"{where}: cannot be written ({error.strerror})") from error
    try:
        durable.sync(model.folder)
    except OSError as error:
        # It may be served by now, and is not taken back.
        raise PublishFailed(
            f"{place}: is in its place, but may be gone after a loss of power ({error.strerror})"
        ) from error
    return place


def _publish(model: Model, files: Files, seal: Seal, version: int | None, undo: ExitStack) -> Path:
    check(model, version)
    undo.callback(_remove_empty, _missing(model.folder))
    stage = model.folder / f".staging-{uuid4().hex}"
    undo.callback(shutil.rmtree, stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name, data in files.items():
        _write(stage / name, data)
        durable.sync((stage / name).parent)
    hashes = {name: passport.file_sha256(stage / name) for name in files}

    if model.labels:
        _place(model.folder / model_config.LABELS, model.label_text, undo)
    _place(model.folder / model_config.FILENAME, model.config_text, undo)
    check(model, version)  # again: another export may have placed its files first
    while True:
        number = version or next_version(model.folder)
        sealed = seal(number, hashes).model_copy(update={"labels_sha256": _labels_sha256(model)})
        _write(stage / passport.FILENAME, sealed.to_json().encode())
        durable.sync(stage)
        place = model.folder / str(number)
        try:
            return stage.rename(place)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                raise
            # Another export took the number in between. With one asked for, `check` says so.
            check(model, version)


def _labels_sha256(model: Model) -> str | None:
    """That of the file as it is, which an earlier export may have placed."""
    return passport.file_sha256(model.folder / model_config.LABELS) if model.labels else None


def next_version(folder: Path) -> int:
    """One more than the highest version there."""
    return 1 + max(_versions(folder), default=0)


def _versions(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir()]
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


def _place(path: Path, text: str, undo: ExitStack) -> None:
    """Writes the whole file under a hidden name first; a file that is there already stays."""
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        _write(draft, text.encode())
        os.link(draft, path)  # unlike a rename, it never replaces
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
    undo.callback(_withdraw, path)


def _withdraw(path: Path) -> None:
    """Takes a placed file back, unless another export has published a version on top of it."""
    if not _versions(path.parent):
        path.unlink(missing_ok=True)


def _missing(folder: Path) -> list[Path]:
    """The folders that must be made for `folder` to exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not made yet, or in use by another export
            folder.rmdir()


def _write(path: Path, data: bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, bytes):
        durable.write(path, data)
        return
    with path.open("wb") as file, data.open("rb") as source:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
