"""What Prometheus sees of a server, read by the reader of its own client library."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.server import Server

PLAIN_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Scrape:
    """The metric families of one scrape, by name."""

    families: Mapping[str, Metric]

    def value(self, sample: str, **labels: str) -> float:
        """The value of the one sample of that name that has exactly these labels."""
        # The reader gives every counter the ending that OpenMetrics asks for.
        names = (sample, f"{sample}_total")
        [value] = [
            each.value
            for family in self.families.values()
            for each in family.samples
            if each.name in names and each.labels == labels
        ]
        return value

    def buckets(self, name: str, **labels: str) -> dict[str, float]:
        """The cumulative counts of a histogram by upper bound, in the order of exposition."""
        return {
            each.labels["le"]: each.value
            for each in self.families[name].samples
            if each.name == f"{name}_bucket" and each.labels | labels == each.labels
        }


def scrape(server: Server) -> Scrape:
    """The server's metrics now."""
    # Loading the certificates of the world, which nobody asks for, takes longer than some tests do.
    answer = httpx.get(f"http://{server.metrics}/metrics", verify=False, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == PLAIN_TEXT
    return Scrape({family.name: family for family in text_string_to_metric_families(answer.text)})


def pending(server: Server, model: str) -> float:
    """Requests to the model that wait in its queue now."""
    return scrape(server).value("nv_inference_pending_request_count", model=model, version="1")


async def until_pending(
    server: Server, model: str, count: int, running: Sequence["asyncio.Task[Any]"] = ()
) -> bool:
    """Once so many requests wait for the model; False if one of the `running` ended before."""
    while not any(task.done() for task in running):
        if await asyncio.to_thread(pending, server, model) == count:
            return True
    return False
