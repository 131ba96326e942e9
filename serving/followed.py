"""What the server reads from files that change while it runs: keys, certificates.

The files are looked at rather than watched: a file may be written in place or renamed over, and
Kubernetes swaps a link to the folder above it. What counts is what they contain.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from serving.errors import ServingError

logger = logging.getLogger("penstock.security")

_SECONDS: Final = 1.0

_Content = TypeVar("_Content")
_Value = TypeVar("_Value")


class Followed(Generic[_Content, _Value]):
    """`value` is what `parse` makes of what `read` finds; of what is wrong, the last good one.

    Both may block, and raise ServingError, which a start fails with. `name` is for the log.
    """

    def __init__(
        self, name: str, read: Callable[[], _Content], parse: Callable[[_Content], _Value]
    ) -> None:
        self._name = name
        self._read = read
        self._parse = parse
        self._content = read()
        self._complaint = ""
        self.value = parse(self._content)

    def refresh(self) -> None:
        """Look whether there is something else now."""
        try:
            content = self._read()
            if content != self._content:
                self.value = self._parse(content)
                logger.info("the %s have changed; the new ones are in force", self._name)
        except Exception as error:  # Whatever it is, what changes next is to be seen as well.
            self._complain(error)
            return
        self._content, self._complaint = content, ""

    def _complain(self, error: Exception) -> None:
        # The words of other errors may quote what is secret in the file.
        complaint = error.message if isinstance(error, ServingError) else type(error).__name__
        # Told once, not once a second.
        if complaint != self._complaint:
            logger.error("%s; the %s read before stay in force", complaint, self._name)
        self._complaint = complaint


async def follow(sources: Sequence[Followed[Any, Any]]) -> None:
    """Keep all of them fresh, until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        for source in sources:
            await asyncio.to_thread(source.refresh)
