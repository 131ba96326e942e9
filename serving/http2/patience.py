"""How much a peer may ask for that costs only the server: beyond it, the connection ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from serving.http2.frames import ConnectionFault, Fault

# Frames without use to the peer between two responses: settings, empty data and the like.
_MAX_IDLE_FRAMES: Final = 10_000
# Streams that the peer resets before their response: so many at once, and so many a second.
_MAX_RESETS: Final = 1_000
_RESETS_A_SECOND: Final = 100.0
# Between the pings of a peer that has no call under way, unless it may ping as it likes.
_IDLE_PING_SECONDS: Final = 7_200.0


@dataclass(frozen=True, slots=True)
class PingPolicy:
    """gRPC's rules against too many pings, which begin anew with each response.

    `interval`       seconds between two pings; one that comes sooner is a strike
    `strikes`        beyond so many the connection ends; 0: never
    `without_calls`  whether the interval holds without calls too, or two hours instead
    """

    interval: float = 300.0
    strikes: int = 2
    without_calls: bool = False


class Patience:
    """What one connection has asked for in vain; `clock` gives seconds.

    `is_tried` is whether anything has, since the last response.
    """

    def __init__(self, pings: PingPolicy, clock: Callable[[], float]) -> None:
        self._pings = pings
        self._clock = clock
        self.is_tried = False
        self._idle = 0
        self._strikes = 0
        self._last_ping: float | None = None
        self._resets = float(_MAX_RESETS)
        self._reset_at = clock()

    def answered(self) -> None:
        """A response, or a part of one, has been sent."""
        self.is_tried = False
        self._idle = self._strikes = 0
        self._last_ping = None

    def idle(self) -> None:
        """A frame came that moves nothing on."""
        self.is_tried = True
        self._idle += 1
        if self._idle > _MAX_IDLE_FRAMES:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many frames without use")

    def ping(self, has_calls: bool) -> None:
        """A ping came."""
        self.idle()
        now, last = self._clock(), self._last_ping
        self._last_ping = now
        policy = self._pings
        interval = policy.interval if has_calls or policy.without_calls else _IDLE_PING_SECONDS
        if last is None or now - last >= interval:
            return
        self._strikes += 1
        if policy.strikes and self._strikes > policy.strikes:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too_many_pings")

    def reset(self) -> None:
        """A stream was reset that had no response yet."""
        now = self._clock()
        gained = (now - self._reset_at) * _RESETS_A_SECOND
        self._resets = min(float(_MAX_RESETS), self._resets + gained) - 1
        self._reset_at = now
        if self._resets < 0:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many streams were reset")
