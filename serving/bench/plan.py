"""What a run shall do: whom it asks, and in which steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from urllib.parse import quote

from serving.bench.arrivals import Arrivals


class Protocol(Enum):
    """How requests travel; the names are those of the command line."""

    BINARY = "rest-binary"
    JSON = "rest-json"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class Target:
    """The server and the model; `host` and `port` of REST or of gRPC, as `protocol` says.

    `prefix` comes before REST's paths, `headers` go with every request.
    """

    protocol: Protocol
    host: str
    port: int
    model: str
    version: str = ""
    tls: bool = False
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address with its scheme, as the command line takes it."""
        scheme = "grpc" if self.protocol is Protocol.GRPC else "http"
        return f"{scheme}{'s' if self.tls else ''}://{self.address}{self.prefix}"

    @property
    def model_path(self) -> str:
        """The model's path of REST, as it stands in a request."""
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        return f"{self.prefix}/v2/models/{quote(self.model, safe='')}{version}"


@dataclass(frozen=True, slots=True)
class Step:
    """One load for some time; times in seconds.

    `arrivals`    when requests are due; None for a closed loop, in which each of `in_flight`
                  connections asks again as soon as it has its answer
    `in_flight`   in an open loop: how many requests may be under way; further ones wait their turn
    `duration`    how long it is measured, unless `requests` of them are
    `warm_up`     how long the same load runs before
    `timeout`     how long a request may take, from when it was due
    """

    in_flight: int
    arrivals: Arrivals | None = None
    duration: float = 0.0
    requests: int = 0
    warm_up: float = 0.0
    timeout: float = 0.0

    @property
    def is_open(self) -> bool:
        """True where requests do not wait for the answers to others."""
        return self.arrivals is not None

    def parts(self, processes: int) -> int:
        """How many of the processes have something to do."""
        return min(processes, self.in_flight, self.requests or processes)

    def share(self, part: int, parts: int) -> "Step":
        """What one of `parts` processes does of this; all of them together do all of it."""
        return replace(
            self,
            in_flight=_share(self.in_flight, part, parts),
            requests=_share(self.requests, part, parts),
        )


def _share(whole: int, part: int, parts: int) -> int:
    return whole // parts + (part < whole % parts)
