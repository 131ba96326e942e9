"""Takes an ONNX file and the files of its weights into a folder of our own, which the gates and the
repository then read: whatever becomes of the source, it is these bytes that were proven.

Weights may lie in files beside the model (external data), at paths that the model states. A model
of unknown origin could state any, `../../etc/passwd` or a link to it, and so have a server give
away its contents: a path that leaves the model's folder is refused, and so is any link on it.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import onnx
from google.protobuf.message import DecodeError, Message

from export import protobuf_limit
from export.errors import FileRefused
from serving import passport

MODEL: Final = "model.onnx"
_RESERVED: Final = frozenset({MODEL, passport.FILENAME})
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_RUNTIME_FORMAT: Final = b"ORTM"  # from the fourth byte on


def take(source: Path, folder: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Copies the model as MODEL, and its weights to where it looks for them.

    Returns the model, whose external weights are left in their files, and the names of all files.
    Raises FileRefused.
    """
    _check_size(source)
    _copy(source, folder / MODEL, follow=True)  # a link that somebody named is meant
    model = _parse(folder / MODEL, source)
    locations = sorted({_checked(location, source) for location in _locations(model)})
    for location in locations:
        _copy(source.parent / location, folder / location, follow=False)
    return model, (MODEL, *locations)


def _check_size(source: Path) -> None:
    """What protobuf cannot read is not copied first."""
    try:
        size = source.stat().st_size
    except OSError:  # which the copy tells
        return
    if size > protobuf_limit.BYTES:
        raise FileRefused(
            f"{source}: {protobuf_limit.of(size)}: save the model with its weights beside it, by "
            "onnx.save(..., save_as_external_data=True) or torch.onnx.export(..., "
            "external_data=True), and import that"
        )


def _parse(path: Path, source: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError:
        raise FileRefused(f"{source}: {_no_model(path)}") from None
    if not model.HasField("graph") or not model.ir_version:
        raise FileRefused(f"{source}: {_no_model(path)}")
    return model


def _no_model(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        return "it is a pointer of Git LFS in place of the model: run git lfs pull"
    if start[4:8] == _RUNTIME_FORMAT:
        return "it is of ONNX Runtime's own format: import the ONNX file that it was made of"
    size = path.stat().st_size
    return f"it is no ONNX model, or not a whole one ({size} bytes): export or copy it again"


def _locations(message: Message) -> Iterator[str | bytes]:
    """Where the tensors of a model, its functions and its inner graphs keep their data outside."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL:
            stated = {entry.key: entry.value for entry in message.external_data}
            yield stated.get("location", "")
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                yield from _locations(part)


def _checked(location: str | bytes, source: Path) -> str:
    """The path, as simple as it can be written."""
    # Bytes are what protobuf makes of a text that is not UTF-8.
    if isinstance(location, bytes) or not PurePosixPath(location).parts or "\0" in location:
        raise FileRefused(f"{source}: says {location!r} of where its weights are: export it again")
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts or "\\" in location or ":" in path.parts[0]:
        raise FileRefused(
            f"{source}: its weights are in {location!r}, which leaves the model's folder: save the "
            "model with its weights beside it"
        )
    if path.parts[0] in _RESERVED:
        raise FileRefused(
            f"{source}: its weights are in {location!r}, a name that a version has for a file of "
            "its own: save them under another"
        )
    place = source.parent
    for part in path.parts:
        place /= part
        if os.path.islink(place):
            raise FileRefused(
                f"{source}: its weights are in {location!r}, but {place} is a link, which could "
                "lead anywhere: put the file itself there"
            )
    return str(path)


def _copy(source: Path, target: Path, follow: bool) -> None:
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(source, flags)  # at a pipe that nobody writes to, it must not wait
        with os.fdopen(descriptor, "rb") as file:
            if not os.path.isfile(descriptor):
                raise FileRefused(f"{source}: is not a plain file")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as copy:
                shutil.copyfileobj(file, copy)
    except FileNotFoundError:
        raise FileRefused(
            f"{source}: does not exist, but the model keeps weights there: copy it beside the model"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FileRefused(
                f"{target.parent}: has no room for a copy of {source} ({error.strerror}): choose "
                "another folder for such by TMPDIR"
            ) from error
        raise FileRefused(f"{source}: cannot be read ({error.strerror})") from error
