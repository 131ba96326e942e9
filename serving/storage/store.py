"""A repository behind a URL, read through fsspec: what is there, and the bytes of it."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Final

from serving.errors import LoadFailed, ServingError, Unavailable
from serving.location import Remote
from serving.storage.credentials import AZURE_SCHEMES, GOOGLE_SCHEMES, S3_SCHEMES, options
from serving.storage.objects import Changed, Object

# What tells one content of an object from another, by how well it does; stores name it variously.
_VERSIONS: Final = (
    "ETag",
    "etag",
    "generation",
    "LastModified",
    "last_modified",
    "mtime",
    "modified",
    "updated",
    "created",
)
# By scheme: the extra that brings what opens it, and where credentials are looked for.
_S3: Final = ("s3", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role of AWS")
_GOOGLE: Final = ("gcs", "GOOGLE_APPLICATION_CREDENTIALS, or an attached service account")
_AZURE: Final = ("azure", "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or an identity of Azure")
_SUPPORT: Final = (
    dict.fromkeys(S3_SCHEMES, _S3)
    | dict.fromkeys(GOOGLE_SCHEMES, _GOOGLE)
    | dict.fromkeys(AZURE_SCHEMES, _AZURE)
)


class Store:
    """The objects of one repository; for any thread. LoadFailed where it does not answer.

    LoadFailed also where what opens such URLs is not installed.
    """

    # Bytes to ask for, and to hold in memory, at a time.
    BLOCK: ClassVar[int] = 16 * 1024 * 1024

    def __init__(self, remote: Remote) -> None:
        self.url = remote.url
        self._extra, self._credentials = _SUPPORT.get(remote.scheme, ("s3", "the environment"))
        try:
            import fsspec

            # Listings that are remembered would hide what changes.
            known = {"use_listings_cache": False, "skip_instance_cache": True}
            given = options(remote, os.environ) | known
            self._files, root = fsspec.core.url_to_fs(remote.target, **given)
        except ImportError as error:
            raise LoadFailed(
                f"{self.url}: {error}: pip install 'penstock[{self._extra}]'"
            ) from error
        except ServingError:
            raise
        except Exception as error:  # whatever an SDK finds wrong with what it was given
            raise LoadFailed(f"{self.url}: cannot be opened: {_words(error)}") from error
        self._root = str(root).rstrip("/")
        self._closed = False

    def close(self) -> None:
        """Ask nothing more; whoever waits for an answer gets Unavailable, as does who asks then.

        It breaks off what any store of this process is asked: they share the thread that asks.
        """
        self._closed = True
        if getattr(self._files, "async_impl", False):
            loop = self._files.loop
            # A store that is silent would keep the process for minutes.
            loop.call_soon_threadsafe(_break_off, loop)

    def folders(self) -> list[str]:
        """The names of what are folders in the repository."""
        with self._asking():
            found = self._files.ls(self._root, detail=True)
        names = (str(one["name"]).rstrip("/") for one in found if one["type"] == "directory")
        return [name.rpartition("/")[2] for name in names if name != self._root]

    def objects(self, folder: str = "") -> list[Object]:
        """Every object below `folder`, or in all of the repository, sorted by name."""
        root = f"{self._root}/{folder}".rstrip("/")
        with self._asking():
            found = self._files.find(root, detail=True)
            if not isinstance(found, Mapping):  # `root` is an object itself
                return []
            named = {
                name.removeprefix(f"{self._root}/"): info
                for name, info in found.items()
                if name.startswith(f"{root}/")
                and not name.endswith("/")
                and info["type"] != "directory"
            }
            return [self._object(name, named[name]) for name in sorted(named)]

    def blocks(self, wanted: Object, offset: int) -> Iterator[bytes]:
        """The bytes of `wanted` from `offset` on; Changed if it is not what was listed any more."""
        path = f"{self._root}/{wanted.name}"
        size = self.BLOCK
        with self._asking(wanted), self._files.open(path, "rb", size, cache_type="none") as file:
            file.seek(offset)
            while block := file.read(size):
                yield block
        with self._asking(wanted):
            if self._object(wanted.name, self._files.info(path)) != wanted:
                raise Changed(wanted.name)

    def _object(self, name: str, info: Mapping[str, Any]) -> Object:
        if info.get("islink") or info["type"] != "file":
            raise LoadFailed(f"{self.url}/{name}: is a link; links are refused: put the file there")
        version = _version(info)
        if not version or info["size"] is None:
            info = self._files.info(f"{self._root}/{name}")
            version = _version(info)
        if not version or info["size"] is None:
            raise LoadFailed(f"{self.url}/{name}: the store tells neither version nor size of it")
        return Object(self.url, name, info["size"], version)

    @contextmanager
    def _asking(self, wanted: Object | None = None) -> Iterator[None]:
        """What the store's failures in the block mean; of `wanted`, if it was asked for that."""
        self._refuse_if_closed()
        try:
            yield
        except (ServingError, Changed):
            raise
        # The SDKs raise errors of their own, without a common ancestor.
        except Exception as error:
            self._refuse_if_closed()
            if wanted and (
                isinstance(error, FileNotFoundError) or type(error).__name__ == "FileExpired"
            ):
                raise Changed(wanted.name) from error
            raise LoadFailed(self._failure(error)) from error
        # What was broken off seems to have been answered by nothing.
        self._refuse_if_closed()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the server is stopping and fetches no models any more")

    def _failure(self, error: Exception) -> str:
        if isinstance(error, FileNotFoundError):
            return (
                f"{self.url}: there is no such bucket, or nothing in it below that name; correct "
                "the URL, or upload a model"
            )
        words = _words(error)
        if isinstance(error, PermissionError) or "redential" in words + type(error).__name__:
            return (
                f"{self.url}: access is refused: {words}; give credentials that may list and read "
                f"it by {self._credentials}"
            )
        return f"{self.url}: the store does not answer: {words}; see to the network and the URL"


def _break_off(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def _version(info: Mapping[str, Any]) -> str:
    found = next((info[name] for name in _VERSIONS if info.get(name)), "")
    # A listing may have it in another form than what is told of one object.
    if isinstance(found, datetime):
        found = found.timestamp()
    return str(found).removeprefix("W/").strip('"')


def _words(error: Exception) -> str:
    """An SDK's error in a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
