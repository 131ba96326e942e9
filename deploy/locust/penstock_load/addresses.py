"""Where the server is, and what callers must show it."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_GRPC_PORT: Final = 8001


@dataclass(frozen=True, slots=True)
class Address:
    """The two ports of a server, as tritonclient takes them, and whether they speak TLS."""

    rest: str
    grpc: str
    is_secure: bool

    @classmethod
    def of(cls, host: str, grpc: str) -> "Address":
        """The address of Locust's --host, a URL; ValueError where it is none.

        `grpc` is HOST:PORT, or empty for the same host's port 8001.
        """
        url = urlsplit(host)
        if url.scheme not in _PORTS or not url.hostname:
            raise ValueError(f"--host: expected http://HOST:PORT, got {host!r}")
        name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        return cls(
            f"{name}:{url.port or _PORTS[url.scheme]}",
            grpc or f"{name}:{_GRPC_PORT}",
            url.scheme == "https",
        )


def credentials(options: Any) -> dict[str, str]:
    """The headers that show who asks."""
    return {"authorization": f"Bearer {options.api_key}"} if options.api_key else {}
