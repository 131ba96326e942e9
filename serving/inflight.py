"""How many bytes of large requests a server holds at a time, of all connections and protocols."""

from typing import Final

# Smaller requests are bounded by the number of connections.
LARGE: Final = 64 * 1024
# By so much may a packed body or message grow: no byte of deflate stands for more.
_GROWTH: Final = 1032


def unpacked(size: int, limit: int) -> int:
    """The most that `size` packed bytes may come to, beside themselves, where `limit` is taken."""
    return min(size * _GROWTH, size + limit)


class Inflight:
    """A budget of `limit` bytes for requests from `LARGE` bytes on, from their heads to their ends.

    A single request always fits, however large; 0 is no limit. To be used in one thread.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def admits(self, size: int, own: int = 0) -> bool:
        """Whether a request has room for `size` bytes beside the `own` that are held for it."""
        held = self.held
        return size < LARGE or not self.limit or held == own or held + size <= self.limit

    def take(self, size: int) -> int:
        """Hold room for a request that is admitted; the bytes to give back at its end."""
        if size < LARGE:
            return 0
        self.held += size
        return size

    def give_back(self, size: int) -> None:
        """A request is over for which so much was held."""
        self.held -= size

    def refusal(self, size: int, own: int = 0) -> str:
        """What a client is told whose request has no room, though it holds so much of its `own`."""
        others = self.held - own
        return (
            f"the request has {size} bytes, and {others} bytes of others are being answered; "
            f"the server holds at most {self.limit} at a time (--max-inflight-bytes)"
        )
