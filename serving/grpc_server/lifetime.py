"""When a connection ends by itself: no greeting, no calls, no sign of life, or of old age."""

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

from serving.grpc_server.policy import Policy

# For the client to hear that it is to make no new calls, to read why its connection ends, and to
# close it.
_GOODBYE_SECONDS: Final = 2.0
# gRPC spreads the ends of connections that began together.
_JITTER: Final = 0.1


class Ending(Protocol):
    """A connection as its lifetime sees it."""

    @property
    def is_greeted(self) -> bool:
        """Whether the client has said that it speaks HTTP/2."""

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""

    def give_up_waiting(self) -> None:
        """End the calls that wait for nothing but the client."""

    def ask_alive(self) -> None:
        """Ask for a sign of life."""

    def announce_end(self) -> None:
        """Ask for no new calls."""

    def refuse(self) -> None:
        """Take no new calls; linger after the last one."""

    def close(self) -> None:
        """Close once everything is written."""

    def abort(self) -> None:
        """Close now."""


class Lifetime:
    """The timers of one connection; `last_heard` is for it to keep up to date."""

    def __init__(self, policy: Policy, loop: asyncio.AbstractEventLoop, connection: Ending) -> None:
        self.last_heard = loop.time()
        self._policy = policy
        self._loop = loop
        self._connection = connection
        self._asked = 0.0
        self._is_leaving = False
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def begin(self) -> None:
        """The connection is made."""
        policy = self._policy
        if policy.patience is not None:
            self._after("patience", policy.patience, self._check_idle)
        if policy.keepalive is not None:
            self._after("keepalive", policy.keepalive, self._check_alive)
        if policy.max_age is not None:
            age = policy.max_age * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._after("age", age, self._grow_old)

    def leave(self) -> None:
        """Take no new calls, answer those under way, and close."""
        self._is_leaving = True
        self._connection.announce_end()
        self._after("goodbye", _GOODBYE_SECONDS, self._connection.refuse)

    def linger(self) -> None:
        """Nothing more is said: who has not closed the connection in a while finds it closed."""
        keepalive = self._timers.pop("keepalive", None)
        if keepalive:
            keepalive.cancel()
        self._after("linger", _GOODBYE_SECONDS, self._connection.close)

    def closing(self) -> None:
        """The connection is being closed, which must not depend on the client's reading."""
        self.stop()
        self._after("closing", _GOODBYE_SECONDS, self._connection.abort)

    def stop(self) -> None:
        """The connection is closed."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _check_idle(self) -> None:
        assert self._policy.patience is not None
        left = self._policy.patience - (self._loop.time() - self.last_heard)
        if not self._connection.is_greeted:
            self._connection.abort()
            return
        if left <= 0:
            left = self._policy.patience
            # Once it is to end, there may be calls that began before its client heard of that.
            if self._connection.is_idle and not self._is_leaving:
                self.leave()
            else:
                self._connection.give_up_waiting()
        self._after("patience", left, self._check_idle)

    def _check_alive(self) -> None:
        assert self._policy.keepalive is not None
        silence = self._loop.time() - self.last_heard
        if silence < self._policy.keepalive:
            self._after("keepalive", self._policy.keepalive - silence, self._check_alive)
            return
        self._asked = self._loop.time()
        self._connection.ask_alive()
        self._check_answer()

    def _check_answer(self) -> None:
        policy = self._policy
        assert policy.keepalive is not None
        left = self._asked + policy.keepalive_timeout - self._loop.time()
        if self.last_heard > self._asked:
            self._check_alive()
        elif left <= 0:
            self._connection.abort()
        else:
            self._after("keepalive", min(left, policy.keepalive), self._check_answer)

    def _grow_old(self) -> None:
        self.leave()
        if self._policy.max_age_grace is not None:
            self._after("age", self._policy.max_age_grace, self._connection.abort)

    def _after(self, name: str, seconds: float, act: Callable[[], object]) -> None:
        """Do something later, in the place of what was to be done under the same name."""
        timer = self._timers.get(name)
        if timer:
            timer.cancel()
        self._timers[name] = self._loop.call_later(seconds, act)
