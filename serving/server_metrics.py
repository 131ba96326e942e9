"""Prometheus text of the servers elsewhere that execute the models, one by one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from serving.statistics import ServerStatistics

_GAUGES: Final[tuple[tuple[str, str, Callable[[ServerStatistics], float]], ...]] = (
    ("penstock_server_up", "Whether the server can be reached", lambda s: s.is_reachable),
    ("penstock_server_ready", "Whether the server says that it is ready", lambda s: s.is_ready),
    (
        "penstock_server_outstanding_calls",
        "Calls that the server has not answered yet",
        lambda s: s.outstanding,
    ),
)


class _Servers(Collector):
    """The metric families of some servers."""

    def __init__(self, servers: Sequence[ServerStatistics]) -> None:
        self._servers = servers

    def collect(self) -> Iterator[Metric]:
        for name, text, read in _GAUGES:
            gauge = Metric(name, text, "gauge")
            for server in self._servers:
                gauge.add_sample(name, {"server": server.address}, read(server))
            yield gauge
        calls = Metric("penstock_server_calls", "Calls to the server", "counter")
        failures = Metric(
            "penstock_server_failures",
            "Calls that the server did not answer, by what it did instead",
            "counter",
        )
        for server in self._servers:
            labels = {"server": server.address}
            calls.add_sample(f"{calls.name}_total", labels, server.calls)
            for reason, count in server.failures.items():
                told = labels | {"reason": reason.value}
                failures.add_sample(f"{failures.name}_total", told, count)
        yield calls
        yield failures


def render(servers: Sequence[ServerStatistics]) -> bytes:
    """The metrics in Prometheus' text format; nothing at all where there are no servers."""
    return generate_latest(_Servers(servers)) if servers else b""
