"""The order in which requests are served, as clients of a real server see it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.e2e.clients import Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import until_pending
from tests.e2e.server import Server, penstock_server

LEVELS: Final = "dynamic_batching { priority_levels: 3 default_priority_level: 2 }"
# Models by how long they take, one of which takes long enough for the other requests to arrive.
MODELS: Final = {f"levels-{delay_ms}": delay_ms for delay_ms in (500, 2000)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for model, delay_ms in MODELS.items():
        add_identity(folder, model, delay_ms=delay_ms, more=LEVELS)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with penstock_server(repository=repository) as running:
        yield running


async def ask(client: Client, model: str, priority: int, answered: list[int]) -> None:
    await client.infer(model, {"x": np.zeros((1, 1), np.float32)}, priority=priority)
    answered.append(priority)


async def attempt(server: Server, protocol: str, model: str) -> list[int] | None:
    """The priorities in the order of the answers; None if the first was over too early."""
    answered: list[int] = []
    async with connect(protocol, server) as client:
        # One of the first two runs while the others come.
        tasks = [asyncio.create_task(ask(client, model, 0, answered)) for _ in range(2)]
        all_wait = await until_pending(server, model, 1, tasks)
        for waits, priority in enumerate((3, 1), 2):
            tasks.append(asyncio.create_task(ask(client, model, priority, answered)))
            all_wait = all_wait and await until_pending(server, model, waits, tasks[:2])
        await asyncio.gather(*tasks)
    return answered if all_wait else None


@pytest.mark.parametrize("protocol", ["http.aio", "grpc.aio"])
async def test_a_request_of_a_higher_level_overtakes_those_that_wait(
    server: Server, protocol: str
) -> None:
    for model in MODELS:
        if answered := await attempt(server, protocol, model):
            break
    assert answered == [0, 1, 0, 3]
