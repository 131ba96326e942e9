"""Several Triton servers as one: which of them is asked, and what happens when one fails."""

import asyncio
import copy
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, Final

from google.protobuf.message import Message

from serving.errors import ServingError
from serving.statistics import ServerStatistics
from serving.triton import failures
from serving.triton.dialling import Dialling
from serving.triton.discovery import Discovery
from serving.triton.failures import Untouched
from serving.triton.link import Link, State, executed
from serving.triton.sequences import Home

logger = logging.getLogger("penstock.triton")

# In seconds: how often names are looked up, how long a connection is kept (behind one address
# there may be several servers, which connections are spread over), and how long one that has been
# replaced may go on with its calls.
_LOOKUP_INTERVAL: Final = 5.0
_MAX_AGE: Final = 1800.0
_GRACE: Final = 600.0


class Fleet:
    """The servers that `names` stand for; to be used on one event loop."""

    def __init__(
        self, names: Sequence[str], dialling: Dialling, changed: Callable[[], None]
    ) -> None:
        """`names` are HOST:PORT; `changed` is called whenever the state of a server changes."""
        self._discovery = Discovery(names)
        self._dialling = dialling
        self._changed = changed
        self._links: dict[str, Link] = {}
        self._watches: dict[Link, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._turns = count(1)
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Ask every server once whether it is ready, and follow them from then on."""
        await self.look_up()
        self._following = asyncio.create_task(self._follow())

    async def close(self, grace: float) -> None:
        """End all connections, after their calls or `grace` seconds."""
        if self._following is not None:
            self._following.cancel()
        for watch in (*self._watches.values(), *self._leaving):
            watch.cancel()
        await asyncio.gather(*(link.close(grace) for link in self._links.values()))

    async def check(self) -> None:
        """Ask every server now whether it is ready."""
        await asyncio.gather(*(link.check() for link in list(self._links.values())))

    @property
    def is_ready(self) -> bool:
        """True while a server is."""
        return any(link.state is State.READY for link in self._links.values())

    @property
    def links(self) -> Sequence[Link]:
        """The servers, whatever their state."""
        return tuple(self._links.values())

    @property
    def unknown(self) -> Sequence[str]:
        """The names that have not stood for any server yet."""
        return self._discovery.unknown

    def statistics(self) -> Sequence[ServerStatistics]:
        """How they do, and what they were asked since they were found.

        A name that has stood for none yet is a server that cannot be reached.
        """
        found = [link.statistics() for link in self._links.values()]
        return [*found, *map(ServerStatistics, self.unknown)]

    @property
    def size(self) -> int:
        """How many servers there are, whatever their state."""
        return len(self._links)

    async def call(
        self, method: str, message: Message, deadline: int | None = None, home: Home | None = None
    ) -> Any:
        """The reply of one server; of another where the first cannot have done anything.

        `home` has the address of the server that it must be, or gets that of the one it was.
        Raises ServingError.
        """
        tried: Link | None = None
        while True:
            link = self._choose(executed(message), home, tried)
            try:
                return await link.call(method, message, deadline)
            except Untouched as failure:
                self._refuse_again(link, tried, home, failure)
                tried = link

    async def stream(
        self, message: Message, deadline: int | None, home: Home | None
    ) -> AsyncGenerator[Any, None]:
        """As `call`, with all responses to a request on a stream; tried again before the first."""
        tried: Link | None = None
        while True:
            link = self._choose(executed(message), home, tried)
            began = False
            try:
                async with aclosing(link.stream(message, deadline)) as replies:
                    async for reply in replies:
                        began = True
                        yield reply
                return
            except Untouched as failure:
                self._refuse_again(link, link if began else tried, home, failure)
                tried = link

    async def call_all(
        self, method: str, message: Message, deadline: int | None = None
    ) -> tuple[Sequence[Any], Sequence[ServingError]]:
        """The replies of all servers that can be asked, and the errors of those that failed."""
        reachable = self._reachable()
        if not reachable:
            raise failures.nobody()
        calls = (link.call(method, message, deadline) for link in reachable)
        results = await asyncio.gather(*calls, return_exceptions=True)
        errors = [failure for failure in map(_failure, results) if failure]
        return [one for one in results if not isinstance(one, BaseException)], errors

    def _choose(self, model: str, home: Home | None, besides: Link | None) -> Link:
        """The server with the fewest calls in hand; of equals the one that waits for longest.

        One that fails the model, or is not ready as another fails, is asked where no other can be.
        """
        link = self._links.get(home.address) if home and home.address else None
        if link is None or link.state is State.UNREACHABLE:
            candidates = [one for one in self._reachable() if one is not besides]
            if not candidates:
                raise failures.nobody()
            link = min(candidates, key=lambda one: _preference(one, model))
            link.strikes.tried(model)
        link.turn = next(self._turns)
        if home:
            home.address = link.address
        return link

    def _refuse_again(
        self, link: Link, tried: Link | None, home: Home | None, failure: Untouched
    ) -> None:
        """Raise the error unless there is another server that may be tried."""
        if tried or all(one is link for one in self._reachable()):
            # A copy: `failure`, which is its context, has the error itself, and both would stay.
            raise copy.copy(failure.error) from None
        if home:
            home.address = ""

    def _reachable(self) -> list[Link]:
        return [link for link in self._links.values() if link.state is not State.UNREACHABLE]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOKUP_INTERVAL)
            try:
                await self.look_up()
            except Exception as error:
                # Whatever it is, the servers that are known go on.
                logger.exception("looking for servers failed", exc_info=error)

    async def look_up(self) -> None:
        """Find out which servers there are, and how to connect to them, as it is now."""
        addresses = await self._discovery.addresses()
        await asyncio.to_thread(self._dialling.refresh)
        oldest, identity = time.monotonic() - _MAX_AGE, self._dialling.identity
        kept = {
            address
            for address, link in self._links.items()
            if link.began > oldest and link.identity is identity
        }
        added = (self._add(*each) for each in addresses.items() if each[0] not in kept)
        await asyncio.gather(*added)
        for address in self._links.keys() - set(addresses):
            self._retire(self._links.pop(address))
        self._changed()

    async def _add(self, address: str, name: str) -> None:
        """Connect, and take the place of an older connection unless that is worth more."""
        old = self._links.get(address)
        record = old.record if old else ServerStatistics(address)
        link = Link(record, name, self._dialling, self._changed)
        await link.check()
        if old is not None and link.state is State.UNREACHABLE is not old.state:
            await link.close(0)
            return
        self._links[address] = link
        self._watches[link] = asyncio.create_task(link.watch())
        if old is not None:
            self._retire(old)

    def _retire(self, link: Link) -> None:
        self._watches.pop(link).cancel()
        leaving = asyncio.create_task(link.close(_GRACE))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


def _preference(link: Link, model: str) -> tuple[bool, bool, int, int]:
    return (
        link.strikes.are_out(model),
        link.state is not State.READY,
        link.outstanding,
        link.turn,
    )


def _failure(result: Any) -> ServingError | None:
    if isinstance(result, Untouched):
        return result.error
    if isinstance(result, ServingError):
        return result
    if isinstance(result, BaseException):
        raise result
    return None
