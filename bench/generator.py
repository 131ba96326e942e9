"""The load generator of `penstock bench`, for whatever a server is asked: open and closed loops.

In an open loop requests are sent when they are due, answered or not, and latencies count from that
moment. It runs in processes of its own, on the processors that this thread may use when it starts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench.cases import Request
from serving.bench.arrivals import Arrivals, Shape
from serving.bench.client.fleet import Fleet, Standing, Watch, fleet
from serving.bench.client.supply import Turns
from serving.bench.client.tally import Tally
from serving.bench.client.worker import Job
from serving.bench.model import Model
from serving.bench.plan import Protocol, Step, Target

IN_FLIGHT: Final = 2048  # connections of an open loop, at most
# The status that a failure has by which a server refused: it is overloaded, and says so.
REFUSALS: Final = frozenset({"HTTP 429", "HTTP 503"})


class _NotEmpty:
    """Looks at answers whose contents were looked at before: there must be some."""

    def __call__(self, body: int, answer: bytes, json_length: int | None) -> str | None:
        return None if answer else "an empty answer"


def closed(connections: int, seconds: float, warm_up: float, timeout: float) -> Step:
    """So many connections, each of which asks again as soon as it has its answer."""
    return Step(connections, duration=seconds, warm_up=warm_up, timeout=timeout)


def poisson(
    rate: float, seconds: float, warm_up: float, timeout: float, in_flight: int = IN_FLIGHT
) -> Step:
    """So many requests a second, independent of each other, given up after `timeout`.

    Beyond `in_flight` connections they wait, which their latency contains.
    """
    arrivals = Arrivals(Shape.POISSON, rate)
    return Step(in_flight, arrivals, seconds, warm_up=warm_up, timeout=timeout)


class Generator:
    """Sends one request again and again, under one load after the other.

    Their timeouts must not become shorter.
    """

    def __init__(self, clients: Fleet) -> None:
        self._clients = clients

    def run(
        self,
        step: Step,
        begun: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
        tell: Callable[[Standing, float], None] = lambda standing, seconds: None,
    ) -> Tally:
        """That load; see `serving.bench.client.fleet.Watch` for who is told of what."""
        return self._clients.run(step, Watch(tell, begun, ended, lambda: False))


@contextmanager
def generator(address: str, request: Request, processes: int = 1) -> Iterator[Generator]:
    """A generator of that request to a server at `host:port`, over HTTP/1.1."""
    host, _, port = address.partition(":")
    target = Target(Protocol.BINARY, host, int(port), request.path)
    body = _bytes(address, request)
    supply = partial(Turns, [body])
    job = Job(target, Model(request.path, (), (), None), supply, [{}], 1, _NotEmpty())
    with fleet(job, processes) as clients:
        yield Generator(clients)


def _bytes(address: str, request: Request) -> bytes:
    headers = {"Host": address, **request.headers, "Content-Length": str(len(request.body))}
    lines = (f"{name}: {value}" for name, value in headers.items())
    head = "\r\n".join((f"POST {request.path} HTTP/1.1", *lines, "", ""))
    return head.encode("latin-1") + request.body
