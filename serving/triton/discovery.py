"""What the names of servers stand for: every address of a name is a server of its own."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence

logger = logging.getLogger("penstock.triton")


class Discovery:
    """Looks the names up; what a name stood for last holds where nobody can say."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are HOST:PORT, an IPv6 address in brackets."""
        self._known: dict[str, Sequence[str]] = dict.fromkeys(names, ())
        # Why names cannot be looked up, as far as it has been told.
        self._faults: dict[str, str] = {}

    async def addresses(self) -> Mapping[str, str]:
        """All servers as they are called now: each `ADDRESS:PORT` and the host that it is."""
        found = await asyncio.gather(*map(self._look_up, self._known))
        for name, addresses in zip(self._known, found, strict=True):
            if addresses:
                self._known[name] = addresses
        return {one: _host(name) for name, known in self._known.items() for one in known}

    @property
    def unknown(self) -> Sequence[str]:
        """The names that have not stood for any server yet."""
        return [name for name, addresses in self._known.items() if not addresses]

    async def _look_up(self, name: str) -> Sequence[str]:
        """The addresses of HOST:PORT, of one family: a server may have one of each."""
        port = name.rpartition(":")[2]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(_host(name), int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            fault = error.strerror or str(error)
            if self._faults.get(name) != fault:
                logger.warning("%s: %s", name, fault)
            self._faults[name] = fault
            return ()
        self._faults.pop(name, None)
        hosts = sorted({str(address[0]) for *_, address in found})
        old = [f"{one}:{port}" for one in hosts if ipaddress.ip_address(one).version == 4]
        return old or [f"[{one}]:{port}" for one in hosts]


def _host(name: str) -> str:
    return name.rpartition(":")[0].strip("[]")
