"""Steps of sequences come to the server that has their state, one after the other."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from serving.types import InferenceRequest, Parameter

# Of those that never end, the ones used least recently are forgotten.
_MAX_SEQUENCES: Final = 65_536


@dataclass(slots=True)
class Home:
    """Where a sequence lives: the address of its server, "" while it has none."""

    address: str = ""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sequences:
    """The homes of all sequences of one gateway."""

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[str, Parameter], Home] = OrderedDict()

    @asynccontextmanager
    async def step(self, request: InferenceRequest) -> AsyncIterator[Home | None]:
        """The home of the request's sequence, in its turn; None if it belongs to none.

        Two calls to a server may pass each other, so that a step waits for the answer to the one
        before it, as it would in the server.
        """
        identifier = request.parameters.get("sequence_id", 0)
        if not identifier:
            yield None
            return
        key = (request.model, identifier)
        home = self._homes.setdefault(key, Home())
        self._homes.move_to_end(key)
        if len(self._homes) > _MAX_SEQUENCES:
            self._homes.popitem(last=False)
        async with home.turn:
            if request.parameters.get("sequence_start"):
                home.address = ""
            yield home
        if request.parameters.get("sequence_end") and self._homes.get(key) is home:
            del self._homes[key]
