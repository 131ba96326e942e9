"""API keys, from a file that may change while the server runs.

A line of the file is a name, a key and, if need be, rights; `#` begins a comment:

    # name    key                                   rights
    frontend  6c1f0e5b8d7a42f39e7b                  infer
    operator  sha256:9f86d081884c7d659a2feaa0c5...  admin
    monitor   sha256:60303ae22b998861bce3b28f33...  metadata,statistics

- A key is written as it is sent, or as `sha256:` and its digest (`printf %s KEY | sha256sum`).
- Rights are groups of calls, by the names that restrictions have, or `infer` for what inference
  clients do (the default) or `admin` for everything.
- A name may have several keys, so that a new one can be handed out before the old one goes.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from serving.errors import ServingError
from serving.followed import Followed
from serving.restrictions import Group


class Grant(NamedTuple):
    """Whose key it is, and what it opens."""

    name: str
    groups: frozenset[Group]


# By the digest of the key: to find one takes as long whatever is asked for, since nobody can choose
# how digests begin, and no key stays in memory.
Keys: TypeAlias = Mapping[bytes, Grant]

RIGHTS: Final[Mapping[str, frozenset[Group]]] = {
    "infer": frozenset(
        {Group.HEALTH, Group.METADATA, Group.INFERENCE, Group.MODEL_CONFIG, Group.STATISTICS}
    ),
    "admin": frozenset(Group),
} | {group.value: frozenset({group}) for group in Group}

_DEFAULT_RIGHTS: Final = "infer"
# Shorter ones can be guessed.
_MIN_LENGTH: Final = 16
_PLAIN: Final = re.compile(r"[!-~]+")
_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")


def followed(file: str) -> Followed[bytes, Keys]:
    """The keys in `file`, kept fresh; ServingError where it has none or a line is wrong."""
    return Followed(
        f"API keys of {file}", lambda: _read(file), lambda content: parse(content, file)
    )


def digest(key: bytes) -> bytes:
    """What `Keys` has a key under."""
    return hashlib.sha256(key).digest()


def parse(content: bytes, file: str) -> Keys:
    """The keys in the content of `file`.

    Raises ServingError with the number of a line that is wrong, and nothing that is on it.
    """
    keys: dict[bytes, Grant] = {}
    for number, line in enumerate(_text(content, file).splitlines(), start=1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        place = f"{file}:{number}"
        if len(columns) not in (2, 3):
            raise ServingError(f"{place}: expected NAME KEY [RIGHTS], got {len(columns)} words")
        found = _digest(columns[1], place)
        if found in keys:
            raise ServingError(f"{place}: this key is on a line above already")
        rights = columns[2] if len(columns) > 2 else _DEFAULT_RIGHTS
        keys[found] = Grant(columns[0], _groups(rights, place))
    if not keys:
        raise ServingError(f"{file}: there is no key in it; expected lines of NAME KEY [RIGHTS]")
    return keys


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ServingError(f"cannot read --api-keys-file {file}: {error.strerror}") from error


def _text(content: bytes, file: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ServingError(f"{file}: not UTF-8 at byte {error.start}") from None


def _digest(key: str, place: str) -> bytes:
    if hashed := _HASHED.fullmatch(key):
        return bytes.fromhex(hashed[1])
    if key.startswith("sha256:"):
        raise ServingError(f"{place}: sha256: wants 64 hexadecimal digits behind it")
    if len(key) < _MIN_LENGTH or not _PLAIN.fullmatch(key):
        raise ServingError(
            f"{place}: a key wants at least {_MIN_LENGTH} characters of ASCII, such as those of "
            "`openssl rand -hex 24`"
        )
    return digest(key.encode())


def _groups(rights: str, place: str) -> frozenset[Group]:
    words = rights.split(",")
    if not all(word in RIGHTS for word in words):
        raise ServingError(f"{place}: rights are, with commas between: {', '.join(RIGHTS)}")
    return frozenset[Group]().union(*(RIGHTS[word] for word in words))
