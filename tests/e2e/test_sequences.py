"""Sequences against a real server: many at once, over both protocols, and what ends them."""

import asyncio
import random
import signal
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from tests import sequence_models as models
from tests.e2e.clients import Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import until_pending
from tests.e2e.server import STOPPING, Server, penstock_server

SLOW = "sequence_batching { max_sequence_idle_microseconds: 60000000 }"
TWO = "instance_group { count: 2 kind: KIND_CPU }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    for name, strategy in (("direct", "direct {}\n"), ("oldest", "oldest {}\n")):
        text = models.adder_config(strategy, size=2, more=TWO)
        models.add(repository, name, models.adder(), text)
    models.add(
        repository,
        "brief",
        models.adder(),
        models.adder_config("max_sequence_idle_microseconds: 50000\n", size=1),
    )
    add_identity(repository, "slow", delay_ms=300, more=SLOW)
    add_identity(repository, "slower", delay_ms=2000, more=SLOW)
    with penstock_server(repository=repository) as running:
        yield running


async def ask(
    client: Client,
    model: str,
    x: float,
    sequence: int | str,
    *,
    start: bool = False,
    end: bool = False,
    **options: Any,
) -> float:
    answer = await client.infer(
        model,
        {"x": np.full((1, 1), x, np.float32)},
        sequence_id=sequence,
        sequence_start=start,
        sequence_end=end,
        **options,
    )
    output = "y" if model.startswith("slow") else "total"
    return float(answer.as_numpy(output)[0, 0])


@pytest.mark.parametrize("model", ["direct", "oldest"])
@pytest.mark.parametrize("protocol", ["http.aio", "grpc.aio"])
async def test_sequences_beside_each_other_get_their_own_sums(
    server: Server, protocol: str, model: str
) -> None:
    """Three times as many sequences as there are slots, of numbers or of texts as their ids."""
    dice = random.Random(model + protocol)

    async def run(client: Client, sequence: int | str) -> None:
        numbers = [float(dice.randrange(100)) for _ in range(dice.randrange(1, 15))]
        last = len(numbers) - 1
        totals = [
            await ask(client, model, x, sequence, start=place == 0, end=place == last)
            for place, x in enumerate(numbers)
        ]
        assert totals == list(accumulate(numbers))

    async with connect(protocol, server) as client:
        ids = [*range(1, 7), *(f"text {place}" for place in range(6))]
        await asyncio.gather(*(run(client, sequence) for sequence in ids))


async def test_sequences_on_one_stream_get_their_own_sums(server: Server) -> None:
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:

        async def requests() -> Any:
            for place in range(10):
                for sequence in (1, 2, 3):
                    tensor = tritonclient.grpc.aio.InferInput("x", [1, 1], "FP32")
                    tensor.set_data_from_numpy(np.full((1, 1), sequence, np.float32))
                    yield {
                        "model_name": "direct",
                        "inputs": [tensor],
                        "sequence_id": sequence,
                        "sequence_start": place == 0,
                        "sequence_end": place == 9,
                    }

        totals = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            totals.append(float(result.as_numpy("total")[0, 0]))
    assert totals == [sequence * place for place in range(1, 11) for sequence in (1, 2, 3)]


def test_generate_takes_the_steps_of_a_sequence_too(server: Server) -> None:
    url = f"{server.url}/v2/models/direct/generate"
    flags = [{"sequence_start": True}, {}, {"sequence_end": True}]
    answers = [httpx.post(url, json={"x": 2, "sequence_id": 9, **each}).json() for each in flags]
    assert [answer["total"] for answer in answers] == [2, 4, 6]


async def test_a_silent_sequence_gives_its_slot_to_the_next(server: Server) -> None:
    async with connect("grpc.aio", server) as client:
        assert await ask(client, "brief", 1, 1, start=True) == 1
        assert await ask(client, "brief", 5, 2, start=True) == 5
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            await ask(client, "brief", 2, 1)


async def test_a_client_that_goes_away_ends_its_sequence(server: Server) -> None:
    """Its second request waits behind the first, which takes a while; then the client is gone."""
    async with connect("grpc.aio", server) as client:
        first = asyncio.ensure_future(ask(client, "slower", 1, 1, start=True))
        # Calls of one connection are taken in order, so the first is there once this is answered.
        assert await client.call("is_server_live")
        await until_pending(server, "slower", 0)
        second = asyncio.ensure_future(ask(client, "slower", 2, 1))
        await until_pending(server, "slower", 1)
        second.cancel()
        await until_pending(server, "slower", 0)
        assert not first.done()
        assert await first == 1
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            await ask(client, "slower", 3, 1)
        assert await ask(client, "slower", 4, 2, start=True, end=True) == 4


async def test_a_sequence_that_waits_too_long_for_a_slot_is_refused(server: Server) -> None:
    async with connect("http.aio", server) as client:
        assert await ask(client, "slow", 1, 1, start=True) == 1
        message = "timeout of the corresponding sequence has been expired"
        with pytest.raises(InferenceServerException, match=message) as refused:
            await ask(client, "slow", 2, 2, start=True, timeout=20_000)
        assert refused.value.status() == "503"
        assert await ask(client, "slow", 3, 1, end=True) == 3


async def begin_until_refused(client: Any) -> None:
    """The server says that it stops before all of it knows."""
    while True:
        await ask(client, "adder", 1, 3, start=True, end=True)


async def test_a_server_that_stops_lets_sequences_end(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    repository = tmp_path_factory.mktemp("repository")
    idle = "max_sequence_idle_microseconds: 60000000\n"
    models.add(repository, "adder", models.adder(), models.adder_config(idle))
    with penstock_server(repository=repository) as server:
        async with connect("http.aio", server) as client, connect("grpc.aio", server) as other:
            assert await ask(client, "adder", 1, 1, start=True) == 1
            assert await ask(other, "adder", 5, 2, start=True) == 5
            server.send(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for, STOPPING)
            with pytest.raises(InferenceServerException, match="Server is stopping") as refused:
                await begin_until_refused(client)
            assert refused.value.status() == "503"
            assert await ask(client, "adder", 2, 1) == 3
            assert await ask(other, "adder", 6, 2, end=True) == 11
            assert await ask(client, "adder", 3, 1, end=True) == 6
        assert await asyncio.to_thread(server.wait) == 0


async def test_a_server_that_stops_waits_for_no_sequence_beyond_its_time(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    repository = tmp_path_factory.mktemp("repository")
    idle = "max_sequence_idle_microseconds: 60000000\n"
    models.add(repository, "adder", models.adder(), models.adder_config(idle))
    with penstock_server("--exit-timeout-secs=1", repository=repository) as server:
        async with connect("http.aio", server) as client:
            assert await ask(client, "adder", 1, 1, start=True) == 1
        assert await asyncio.to_thread(server.stop) == 0
