"""What all users have in common: when they ask, how long it took, and what counts as a failure."""

import random
import time
from functools import cached_property
from typing import Any

import gevent
from gevent.pool import Pool
from locust import User, task

from penstock_load.addresses import Address
from penstock_load.arrivals import Arrivals
from penstock_load.options import HOST


class LoadUser(User):  # type: ignore[misc]  # an untyped library
    """Asks again once it is answered; with --rate, when the next request is due.

    In an open loop each user is a part of the arrivals, and latency counts from when a request was
    due: who waits for a slow server before asking again does not see how slow it is.
    """

    abstract = True
    protocol = ""

    def ready(self) -> None:
        """Prepare what `ask` needs; raises where the server has nothing to ask for."""
        raise NotImplementedError

    def ask(self, due: float) -> int:
        """Ask once, which was due then; the answer's bytes. Raises whatever is wrong with it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the connections."""
        raise NotImplementedError

    @property
    def asked(self) -> str:
        """The model, as the report names it."""
        return str(self.options.model)

    @property
    def address(self) -> Address:
        """Where the server is."""
        return Address.of(self.environment.host or HOST, self.options.grpc_host)

    @property
    def options(self) -> Any:
        """The command line."""
        return self.environment.parsed_options

    def on_start(self) -> None:
        """Connect, so that the first request is measured as the others are."""
        self.ready()
        self._began = self._due = time.perf_counter()
        self._in_flight = Pool(self.options.max_in_flight)

    def on_stop(self) -> None:
        """Count what is under way, too: the slowest answers come last."""
        self._in_flight.join(self.options.timeout)
        self.close()

    def wait_time(self) -> float:
        """Seconds between an answer and the next request; an open loop does its own waiting."""
        return 0.0 if self.options.rate else float(self.options.wait)

    @task  # type: ignore[untyped-decorator]
    def work(self) -> None:
        """One request, or the wait for one and its beginning."""
        if not self.options.rate:
            self._measure(time.perf_counter())
            return
        self._due = self._began + self._arrivals.after(self._due - self._began)
        gevent.sleep(max(0.0, self._due - time.perf_counter()))
        self._in_flight.spawn(self._measure, self._due)

    @cached_property
    def _arrivals(self) -> Arrivals:
        share = self.options.rate / self.options.shared_by
        return Arrivals(share, self.options.load, self.options.seconds, random.Random())

    def _measure(self, due: float) -> None:
        failure: Exception | None = None
        size = 0
        try:
            size = self.ask(due)
        except Exception as error:  # whatever it is, it is this request's failure
            failure = error
        self.report(self.protocol, due, size, failure)

    def report(self, kind: str, due: float, size: int, failure: Exception | None = None) -> None:
        """Count what was due then and has come now; `size` in bytes."""
        self.environment.events.request.fire(
            request_type=kind,
            name=self.asked,
            response_time=(time.perf_counter() - due) * 1000,
            response_length=size,
            exception=failure,
            context=self.context(),
        )
