"""How a worker reaches the engine, whichever process that is at the moment.

The door is a pair of sockets which the supervisor keeps open. Through it a worker hands in one end
of a connection of its own, with memory for the two of them; whoever is the engine, now or after the
next start, takes it from there. So nobody has to be found, nothing has a name that others could
use, and nothing stays behind.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from serving.workers import arena
from serving.workers.arena import Arena
from serving.workers.channel import Channel

logger = logging.getLogger("penstock.workers")

_KNOCK: Final = b"\0"


class Door(NamedTuple):
    """Connections go in at `outside`, where the workers are, and come out at `inside`."""

    outside: socket.socket
    inside: socket.socket

    @classmethod
    def open(cls) -> "Door":
        """A new door."""
        # A stream: the queue of datagrams holds too few workers at a time.
        return cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))

    def close(self) -> None:
        """Close both sides of it in this process."""
        self.outside.close()
        self.inside.close()


async def knock(outside: socket.socket, channel: Callable[[], Channel]) -> Channel:
    """A channel to the engine, on which nothing comes before the engine has taken it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with theirs:
            own = _hand_in(outside, theirs)
        loop = asyncio.get_running_loop()
        _, made = await loop.create_unix_connection(partial(_with, channel, own), sock=ours)
    except BaseException:
        ours.close()
        raise
    return made


def _hand_in(outside: socket.socket, theirs: socket.socket) -> Arena:
    """Give the engine its end and memory for both; our half of that."""
    memory = arena.create()
    try:
        own = Arena(memory, 0)
        socket.send_fds(outside, [_KNOCK], [theirs.fileno(), memory])
    finally:
        os.close(memory)
    return own


async def answer(inside: socket.socket, channel: Callable[[], Channel]) -> None:
    """Take every connection that is handed in, and give each a channel, until cancelled."""
    loop = asyncio.get_running_loop()
    inside.setblocking(False)
    knocked = asyncio.Event()
    loop.add_reader(inside, knocked.set)
    try:
        while True:
            await knocked.wait()
            knocked.clear()
            for theirs, own in _handed_in(inside):
                # Whoever has gone by now is not worth more than a line.
                try:
                    await loop.connect_accepted_socket(partial(_with, channel, own), theirs)
                except OSError as error:
                    logger.error("a worker could not be let in: %s", error)
    finally:
        loop.remove_reader(inside)


def _handed_in(inside: socket.socket) -> list[tuple[socket.socket, Arena]]:
    found: list[tuple[socket.socket, Arena]] = []
    while True:
        try:
            knock, descriptors, _, _ = socket.recv_fds(inside, len(_KNOCK), 2)
        except BlockingIOError:
            return found
        if not knock:
            return found  # The door is closed.
        if len(descriptors) < 2:
            # This process may open no more: the worker finds itself cut off, and comes again.
            for one in descriptors:
                os.close(one)
            logger.error("a worker could not be let in: too many open files")
            continue
        connection, memory = descriptors
        theirs = socket.socket(fileno=connection)
        try:
            found.append((theirs, Arena(memory, 1)))
        except OSError as error:  # such as for want of memory: it finds itself cut off as well
            theirs.close()
            logger.error("a worker could not be let in: %s", error)
        finally:
            os.close(memory)


def _with(channel: Callable[[], Channel], own: Arena) -> Channel:
    made = channel()
    made.arena = own
    return made
