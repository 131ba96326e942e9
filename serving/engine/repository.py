"""The folders that models are served from; what is read is read afresh, nothing is remembered.

    <repository>/<model>/config.pbtxt          optional
                        /labels.txt            whatever `label_filename` names
                        /<version>/            1, 2, 3, …
                                  /model.onnx
                                  /passport.json
                                  /tokenizer.json  of a model of texts

Folders and files may be symbolic links, of which a Kubernetes volume is made, as long as they end
inside the repository that lists them. A link that leaves it is refused: who may write into one
repository cannot have the server read what lies elsewhere.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serving import passport
from serving.config import Source
from serving.config.paths import leaves_folder
from serving.engine.places import Copy, Folder, Place, folders, listing
from serving.errors import InvalidArgument, LoadFailed, NotFound
from serving.passport import Passport
from serving.settings import PassportPolicy

CONFIG_FILENAME: Final = "config.pbtxt"
TOKENIZER_FILENAME: Final = "tokenizer.json"
# Versions are 64-bit integers on the wire.
_VERSION_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model as it lies in `repository`; `config_text` is None where it has no config.pbtxt.

    `origin` is what the repository is called, where that is another than the folder that the model
    is read from, in which `copy` keeps it.
    """

    name: str
    repository: Path
    versions: tuple[int, ...]
    config_text: str | None
    origin: str = ""
    copy: Copy | None = field(default=None, repr=False, compare=False)

    @property
    def lasts(self) -> bool:
        """Whether it can be read after the load for which it was found."""
        return self.copy is None or self.copy.lasts

    @property
    def place(self) -> str:
        """Where whoever looks after the model finds it."""
        return self.told(str(self.path))

    def told(self, text: str) -> str:
        """`text`, in which the repository is called by its own name."""
        return text.replace(str(self.repository), self.origin) if self.origin else text

    @property
    def path(self) -> Path:
        """The model's own folder."""
        return self.repository / self.name

    @property
    def source(self) -> Source:
        """What faults of the configuration are reported against."""
        if self.config_text is None:
            return Source(self.place)
        return Source(f"{self.place}{os.sep}{CONFIG_FILENAME}", self.config_text)

    def version_path(self, version: int) -> Path:
        """The folder of `version`."""
        return self.path / str(version)

    def filenames(self, version: int) -> list[str]:
        """The names of what lies in the folder of `version`."""
        return sorted(listing(self.version_path(version)))

    def labels(self, filename: str) -> tuple[str, ...]:
        """The class names in the model's file `filename`, one a line."""
        path = self.path / filename
        if leaves_folder(filename):
            raise LoadFailed(f"{path}: the label file must lie in the model's folder; put it there")
        lines = _read_text(path, self.repository).removeprefix("\ufeff").split("\n")
        return tuple(line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1]))

    def tokenizer(self, version: int) -> str:
        """The text of the version's `tokenizer.json`; empty where there is none."""
        if TOKENIZER_FILENAME not in self.filenames(version):
            return ""
        return _read_text(self.version_path(version) / TOKENIZER_FILENAME, self.repository)

    def read(self, subfolder: str, filename: str) -> bytes:
        """What a file in a folder of the model's own holds; LoadFailed if it cannot be read."""
        path = self.path / subfolder / filename
        if leaves_folder(filename):
            raise LoadFailed(f"{path}: the file must lie in {self.path / subfolder}; put it there")
        return _read_bytes(path, self.repository)


class Repository:
    """The models in one or several places; a name belongs to one model among all of them."""

    def __init__(self, places: Sequence[Path | Place]) -> None:
        self._places = tuple(
            dict.fromkeys(
                Folder(place.absolute()) if isinstance(place, Path) else place for place in places
            )
        )

    def names(self) -> list[str]:
        """All models, sorted; LoadFailed if a repository cannot be read.

        Folders whose names a model cannot have, such as those that begin with a dot, are skipped.
        """
        return sorted(self.places())

    def places(self) -> dict[str, list[Place]]:
        """Each model with the repositories that have one of its name; as `names` otherwise."""
        found: dict[str, list[Place]] = {}
        for place in self._places:
            for name in filter(is_model_name, place.models()):
                found.setdefault(name, []).append(place)
        return found

    def find(self, name: str) -> ModelFolder:
        """The folder of the model `name`.

        InvalidArgument if a model cannot have that name, NotFound if no repository has it,
        LoadFailed if two have it or the folder cannot be read.
        """
        if not is_model_name(name):
            raise InvalidArgument(
                f"{name!r} is not a model name: it must not be empty, begin with a dot, or hold "
                "path separators or control characters"
            )
        found = {place: get for place in self._places if (get := place.look(name))}
        if not found:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        if len(found) > 1:
            places = " and ".join(f"{place}{os.sep}{name}" for place in found)
            raise LoadFailed(
                f"model '{name}' is not unique across all model repositories: it is in {places}; "
                "remove or rename all but one"
            )
        [(place, get)] = found.items()
        copy = get()
        try:
            return _read_folder(name, str(place), copy)
        except LoadFailed as error:
            raise LoadFailed(error.message.replace(str(copy.path), str(place))) from error

    def close(self) -> None:
        """Get no models any more; those that were can still be read."""
        for place in self._places:
            place.close()


def is_model_name(name: str) -> bool:
    """Whether `name` can be a folder's name and part of a URL's path."""
    forbidden = any(character in "/\\" for character in name)
    return bool(name) and name.isprintable() and not name.startswith(".") and not forbidden


def is_version(name: str) -> bool:
    """Whether a folder's name is a version: a positive decimal number without leading zeros."""
    is_number = name.isascii() and name.isdecimal() and name[0] != "0"
    return is_number and len(name) <= _VERSION_DIGITS


def canonical_version(text: str) -> str:
    """A version that a client names, as its folder is named: 1 for 01, as Triton reads it."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _VERSION_DIGITS
    return str(int(text)) if is_number else text


def check_passport(
    folder: ModelFolder, version: int, policy: PassportPolicy
) -> tuple[Passport | None, list[str]]:
    """The passport of `version`, and a warning for each thing that it does not prove.

    With `require`, LoadFailed says the warnings instead; with `off` nothing is read.
    """
    if policy is PassportPolicy.OFF:
        return None, []
    path = folder.version_path(version)
    found, faults = None, []
    try:
        found = passport.read(path / passport.FILENAME)
        faults = [*_foreign(found, folder, version), *passport.mismatches(found, path)]
        faults += [f"{name}: the passport does not vouch for it" for name in _extra(found, path)]
    except FileNotFoundError:
        faults = [f"it has no {passport.FILENAME}, so nothing is proven of it"]
    except (ValueError, OSError, RuntimeError) as error:  # not a passport, or no path
        faults = [str(error)]
    warnings = [f"model '{folder.name}' version {version}: {fault}" for fault in faults]
    if warnings and policy is PassportPolicy.REQUIRE:
        raise LoadFailed(
            "\n".join(warnings)
            + "\na passport is required: publish the version with penstock export, or serve with "
            "--passport-policy=warn"
        )
    return found, warnings


def _foreign(found: Passport, folder: ModelFolder, version: int) -> list[str]:
    if (found.model, found.version) == (folder.name, version):
        return []
    return [f"its passport is that of model '{found.model}' version {found.version}"]


def _extra(found: Passport, path: Path) -> list[str]:
    """The files that were added after the passport was written, hidden ones aside."""
    names = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]
    return [
        name.as_posix()
        for name in names
        if name.as_posix() not in {passport.FILENAME, *found.files}
        and not any(part.startswith(".") for part in name.parts)
    ]


def _read_folder(name: str, origin: str, copy: Copy) -> ModelFolder:
    repository = copy.path
    path = repository / name
    _stay_inside(path, repository)
    versions = sorted(int(folder) for folder in folders(path) if is_version(folder))
    config = path / CONFIG_FILENAME
    _refuse_pipe(config)
    for version in versions:
        folder = path / str(version)
        _stay_inside(folder, repository)
        for entry in listing(folder):
            _refuse_pipe(folder / entry)
    text = _read_text(config, repository) if CONFIG_FILENAME in listing(path) else None
    return ModelFolder(name, repository, tuple(versions), text, origin, copy)


def _stay_inside(path: Path, repository: Path) -> None:
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links is one or the other
        raise LoadFailed(f"{path}: cannot be followed: {error}") from error
    if not target.is_relative_to(repository.resolve()):
        raise LoadFailed(
            f"{path}: leads to {target}, outside of the repository; copy it into the repository, "
            "or name a folder that holds both as --model-repository"
        )


def _refuse_pipe(path: Path) -> None:
    """Who opens a pipe or a device for reading may wait for ever."""
    try:
        mode = path.stat().st_mode  # once: a file may come and go meanwhile
    except OSError:
        return  # whoever reads it is told why that cannot be
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise LoadFailed(f"{path}: is a pipe, socket or device; replace it by a file")


def _read_text(path: Path, repository: Path) -> str:
    try:
        return _read_bytes(path, repository).decode()
    except UnicodeDecodeError as error:
        raise LoadFailed(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def _read_bytes(path: Path, repository: Path) -> bytes:
    _stay_inside(path, repository)
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadFailed(f"{path}: cannot be read: {error.strerror}") from error
