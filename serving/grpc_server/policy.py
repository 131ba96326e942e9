"""How a server treats its clients."""

from dataclasses import dataclass, field

from serving.http2.connection import Terms
from serving.inflight import Inflight


@dataclass(frozen=True, slots=True)
class Policy:
    """Sizes in bytes, times in seconds, None: never.

    `limit`              the largest message that is taken
    `encodings`          how responses are packed: the first of these that the client accepts
    `max_connections`    beyond so many, one that is idle makes room, or the new one is refused
    `patience`           how long a connection may be without calls, or without a greeting
    `keepalive`          silence after which a client is asked whether it is there, and
    `keepalive_timeout`  how long it then has to answer
    `max_age`            how long a connection takes new calls, and
    `max_age_grace`      how long they may take from then on
    `inflight`           how much of large messages is held at a time, of all connections
    """

    limit: int
    encodings: tuple[str, ...] = ()
    max_connections: int | None = None
    patience: float | None = None
    keepalive: float | None = 7200.0
    keepalive_timeout: float = 20.0
    max_age: float | None = None
    max_age_grace: float | None = None
    terms: Terms = field(default_factory=Terms)
    inflight: Inflight = field(default_factory=lambda: Inflight(0))
