"""The order in which requests are served, as clients of a real server see it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.clients import Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import scrape
from tests.e2e.server import Server, penstock_server

LEVELS = "dynamic_batching { priority_levels: 3 default_priority_level: 2 }"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_identity(folder, "levels", delay_ms=1000, more=LEVELS)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with penstock_server(repository=repository) as running:
        yield running


async def ask(client: Client, priority: int, answered: list[int]) -> None:
    await client.infer("levels", {"x": np.zeros((1, 1), np.float32)}, priority=priority)
    answered.append(priority)


async def waiting(server: Server, count: int) -> None:
    """Until so many requests wait in the queue."""
    name = "nv_inference_pending_request_count"
    while True:
        scraped = await asyncio.to_thread(scrape, server)
        if scraped.value(name, model="levels", version="1") == count:
            return


@pytest.mark.parametrize("protocol", ["http.aio", "grpc.aio"])
async def test_a_request_of_a_higher_level_overtakes_those_that_wait(
    server: Server, protocol: str
) -> None:
    answered: list[int] = []
    async with connect(protocol, server) as client:
        # One of the first two runs while the others come.
        tasks = [asyncio.ensure_future(ask(client, 0, answered)) for _ in range(2)]
        await waiting(server, 1)
        for waits, priority in enumerate((3, 1), 2):
            tasks.append(asyncio.ensure_future(ask(client, priority, answered)))
            await waiting(server, waits)
        await asyncio.gather(*tasks)
    assert answered == [0, 1, 0, 3]
