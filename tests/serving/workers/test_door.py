"""How a worker reaches the engine where either of them may open no more files for a while."""

import asyncio
import errno
import gc
import logging
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.workers import door
from serving.workers.channel import Channel
from serving.workers.door import Door
from serving.workers.link import Link


@contextmanager
def no_more_files() -> Iterator[None]:
    """Nothing can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def greeting() -> Channel:
    """The engine's end of a connection."""
    channel = Channel(lambda message: None, lambda: None)
    channel.send(0, "hello", None)
    return channel


class Heard(logging.Handler):
    """Waits for a line in the log."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.anything.set()


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, logger = Heard(), logging.getLogger("penstock.workers")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_a_worker_that_could_open_no_connection_tries_again(heard: Heard) -> None:
    opened = Door.open()
    link = Link(opened.outside, lambda: None, lambda change: None)
    answering = asyncio.create_task(door.answer(opened.inside, greeting))
    with no_more_files():
        link.open()
        await heard.anything.wait()
    await link.is_up.wait()
    link.close()
    answering.cancel()
    opened.close()


async def test_a_worker_that_has_no_memory_to_share_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_large(descriptor: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", too_large)
    opened = Door.open()
    gc.collect()  # what tests before have left
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="File too large"):
        await door.knock(opened.outside, greeting)
    gc.collect()  # where an end that nobody closed would tell
    assert set(os.listdir("/proc/self/fd")) <= before
    opened.close()


@pytest.mark.parametrize("is_cut_short", [True, False])
async def test_an_engine_that_could_not_take_a_connection_takes_the_next(
    heard: Heard, is_cut_short: bool
) -> None:
    opened = Door.open()
    answering = asyncio.create_task(door.answer(opened.inside, greeting))
    one = os.open(os.devnull, os.O_RDONLY)
    connection, other = socket.socketpair()
    with connection, other:
        # What is left of two where one has no room, and memory that cannot be had.
        descriptors = [one] if is_cut_short else [connection.fileno(), one]
        socket.send_fds(opened.outside, [b"\0"], descriptors)
    await heard.anything.wait()
    link = Link(opened.outside, lambda: None, lambda change: None)
    link.open()
    await link.is_up.wait()
    link.close()
    answering.cancel()
    os.close(one)
    opened.close()
