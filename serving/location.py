"""Where a model repository lies: in a folder of this machine, or behind a URL.

models/, file:///srv/models             folders
s3://bucket/prefix                      Amazon S3
s3://host:port/bucket/prefix            another S3 server; s3://https://host:port/… with TLS
gs://bucket/prefix                      Google Cloud Storage
as://account/container/prefix           Azure Blob Storage; abfs://container/prefix as well
scheme://…                              whatever else fsspec opens and lists
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import click

_SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.-]*://"
_URL: Final = re.compile(rf"(?P<scheme>{_SCHEME})(?P<rest>.*)")
_S3_SERVER: Final = re.compile(
    r"(?P<protocol>https?://)?(?P<host>\[[^]/]+\]|[^/:\[\]]+)(?P<port>:\d+)?/(?P<path>.+)"
)
_PASSWORD: Final = re.compile(r"(https?://)?[^/@]*:[^/@]*@")
# Between two repositories in a variable; not within a URL.
_BETWEEN: Final = re.compile(rf"{re.escape(os.pathsep)}(?=/(?!/)|{_SCHEME})")


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository behind a URL.

    `url` is as it was given, `target` as fsspec takes it. `endpoint` is the URL of an S3 server
    other than Amazon's, `account` an Azure account; both are empty where none was named.
    """

    url: str
    target: str
    endpoint: str = ""
    account: str = ""

    def __str__(self) -> str:
        return self.url

    @property
    def scheme(self) -> str:
        """The protocol, as in `s3`."""
        return self.target.partition("://")[0]


Location: TypeAlias = Path | Remote


def parse(text: str) -> Location:
    """The location that `text` names; ValueError says what is wrong with a URL."""
    match = _URL.fullmatch(text)
    if match is None:
        return Path(text)
    url, scheme = text.rstrip("/"), match["scheme"].lower()
    rest = match["rest"].rstrip("/")
    if _PASSWORD.match(rest):
        raise ValueError("a URL must not hold a password: give credentials by the environment")
    if scheme == "file://":
        return Path(unquote(rest))
    if not rest:
        raise ValueError(f"{text!r} names no bucket; expected {scheme}BUCKET/PREFIX")
    if scheme == "s3://":
        return _s3(url, rest)
    if scheme == "as://":
        return _azure(url, rest)
    return Remote(url, scheme + rest)


def _s3(url: str, rest: str) -> Remote:
    server = _S3_SERVER.fullmatch(rest)
    if server and (server["protocol"] or server["port"]):
        endpoint = f"{server['protocol'] or 'http://'}{server['host']}{server['port'] or ''}"
        return Remote(url, f"s3://{server['path']}", endpoint=endpoint)
    if ":" in rest.partition("/")[0]:
        raise ValueError(f"{url!r} names no bucket; expected s3://HOST:PORT/BUCKET/PREFIX")
    return Remote(url, f"s3://{rest}")


def _azure(url: str, rest: str) -> Remote:
    account, _, path = rest.partition("/")
    if not path:
        raise ValueError(f"{url!r} names no container; expected as://ACCOUNT/CONTAINER/PREFIX")
    return Remote(url, f"abfs://{path}", account=account)


class LocationType(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A command line's repository: a folder, which must exist if `exists`, or a URL."""

    name = "path or url"

    def __init__(self, exists: bool = False) -> None:
        self._folder = click.Path(exists=exists, file_okay=not exists, path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """The location that `value` is or names."""
        if not isinstance(value, str):
            assert isinstance(value, Path | Remote)
            return value
        try:
            location = parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if isinstance(location, Path):
            folder = self._folder.convert(location, param, ctx)
            assert isinstance(folder, Path)
            return folder
        return location

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How help writes it."""
        return "PATH|URL"

    def split_envvar_value(self, rv: str) -> list[str]:
        """Locations in a variable are separated as paths are; a URL's own colons do not count."""
        parts = _BETWEEN.split(rv)
        return [
            one
            for part in parts
            for one in ([part] if "://" in part else part.split(os.pathsep))
            if one
        ]
