"""System shared memory that clients offer: named regions of POSIX shared-memory objects.

Regions are read and written by system calls unless clients are trusted. A client may change its
memory, or cut the object short, at any moment: a mapping then gives other values than those that
were checked, or kills the process; a read gives a copy, or an error to answer with.
"""

import mmap
import os
import stat
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from serving.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    Overloaded,
    Unavailable,
    Unsupported,
)

# Where Linux keeps what shm_open calls by a name.
OBJECTS: Final = Path("/dev/shm")
# No links, and no waiting for a pipe of that name.
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MAX_NAME: Final = 255
# Each is an open file, of which the server needs some for its connections.
MAX_REGIONS: Final = 1024


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Region(ABC):
    """`byte_size` bytes from `offset` of the object that `key` names; open as long as it lives."""

    name: str
    key: str
    offset: int
    byte_size: int

    @abstractmethod
    def read(self, offset: int, byte_size: int) -> memoryview:
        """Those bytes of the region.

        Raises InvalidArgument where they are not in the region, or not in the object any more;
        Overloaded where there is no memory for them.
        """

    @abstractmethod
    def write(self, offset: int, data: memoryview) -> None:
        """Put `data`, of bytes, there; raises as `read` does, or Unavailable if it cannot be."""

    def check(self, offset: int, byte_size: int) -> None:
        """InvalidArgument unless the region has `byte_size` bytes from `offset`, both above -1."""
        if offset > self.byte_size or (offset == self.byte_size and byte_size):
            raise InvalidArgument(f"Invalid offset for shared memory region: '{self.name}'")
        if offset + byte_size > self.byte_size:
            raise InvalidArgument(
                f"Invalid offset + byte size for shared memory region: '{self.name}'"
            )

    def _shrunk(self) -> InvalidArgument:
        return InvalidArgument(
            f"shared memory region '{self.name}' is no longer as large as when it was registered"
        )


@dataclass(frozen=True, slots=True)
class CopiedRegion(Region):
    """What is read is a copy, aligned for every datatype."""

    descriptor: int

    def read(self, offset: int, byte_size: int) -> memoryview:
        self.check(offset, byte_size)
        try:
            copy = np.empty(byte_size, np.uint8).data
        except MemoryError:
            raise Overloaded(
                f"no memory for {byte_size} bytes of shared memory region '{self.name}'"
            ) from None
        done = 0
        while done < byte_size:
            count = os.preadv(self.descriptor, [copy[done:]], self.offset + offset + done)
            if count == 0:
                raise self._shrunk()
            done += count
        return copy

    def write(self, offset: int, data: memoryview) -> None:
        self.check(offset, len(data))
        # Writing would make a shorter object longer, which is the client's to do.
        if os.fstat(self.descriptor).st_size < self.offset + offset + len(data):
            raise self._shrunk()
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self.descriptor, data[done:], self.offset + offset + done)
        except OSError as error:
            # An object has no memory where nobody has written yet, and there may be none left.
            raise Unavailable(
                f"shared memory region '{self.name}' cannot be written: {error.strerror}"
            ) from error


@dataclass(frozen=True, slots=True)
class MappedRegion(Region):
    """What is read is the client's memory itself; `memory` is the object up to the region's end."""

    memory: mmap.mmap

    def read(self, offset: int, byte_size: int) -> memoryview:
        return self._view(offset, byte_size)

    def write(self, offset: int, data: memoryview) -> None:
        self._view(offset, len(data))[:] = data

    def _view(self, offset: int, byte_size: int) -> memoryview:
        self.check(offset, byte_size)
        begin, end = self.offset + offset, self.offset + offset + byte_size
        if self.memory.size() < end:
            raise self._shrunk()
        return memoryview(self.memory)[begin:end]


class Regions:
    """The regions that clients registered, by their names; `mapped` is for trusted clients."""

    def __init__(self, *, mapped: bool = False) -> None:
        self._open = _mapped if mapped else _copied
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open the object of that key.

        Raises AlreadyExists if the name is taken, InvalidArgument if there is no such object, or
        no such bytes in it, Overloaded if there are `MAX_REGIONS`.
        """
        if name in self._regions:
            raise AlreadyExists(f"shared memory region '{name}' already in manager")
        if len(self._regions) >= MAX_REGIONS:
            raise Overloaded(f"{MAX_REGIONS} shared memory regions are registered: unregister some")
        with open(_descriptor(key), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unopened(key, "it is no shared-memory object")
            if byte_size <= 0 or offset < 0 or offset + byte_size > status.st_size:
                raise InvalidArgument(
                    f"failed to register shared memory region '{name}': invalid args: "
                    f"{byte_size} bytes from {offset} of an object of {status.st_size} bytes"
                )
            self._regions[name] = self._open(name, key, offset, byte_size, file.fileno())

    def find(self, name: str) -> Region:
        """The region of that name; NotFound if there is none."""
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"Unable to find shared memory region: '{name}'")
        return region

    def all(self) -> list[Region]:
        """Every region, in the order of the names."""
        return [region for _, region in sorted(self._regions.items())]

    def unregister(self, name: str) -> None:
        """Forget the region of that name, if there is one."""
        self._regions.pop(name, None)

    def clear(self) -> None:
        """Forget every region."""
        self._regions.clear()


def _copied(name: str, key: str, offset: int, byte_size: int, descriptor: int) -> Region:
    try:
        kept = os.dup(descriptor)
    except OSError as error:  # of open files there are as many as there may be
        raise _unopened(key, error.strerror or str(error)) from None
    region = CopiedRegion(name, key, offset, byte_size, kept)
    # Requests under way may hold the region longer than clients keep it registered.
    weakref.finalize(region, os.close, kept)
    return region


def _mapped(name: str, key: str, offset: int, byte_size: int, descriptor: int) -> Region:
    try:
        memory = mmap.mmap(descriptor, offset + byte_size)
    except (OSError, ValueError) as error:
        # No room among the addresses, or cut short since it was looked at.
        raise _unopened(key, f"it cannot be mapped: {error}") from error
    return MappedRegion(name, key, offset, byte_size, memory)


def _descriptor(key: str) -> int:
    name = key.removeprefix("/")
    if "/" in name or "\0" in name or name in ("", ".", "..") or len(os.fsencode(name)) > _MAX_NAME:
        raise _unopened(key, "expected a name without slashes but for one before it")
    if not OBJECTS.is_dir():
        raise Unsupported(f"system shared memory needs {OBJECTS}, which is not here")
    try:
        return os.open(OBJECTS / name, _FLAGS)
    except OSError as error:
        raise _unopened(key, error.strerror or str(error)) from None


def _unopened(key: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"Unable to open shared memory region: '{key}': {why}")
