"""Streams through the official clients: what they send is batched, answered in order, drained."""

import asyncio
import queue
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio

from tests.e2e.clients import tensor
from tests.e2e.repositories import add_identity
from tests.e2e.server import Server, penstock_server

ROWS = 4


@pytest.fixture(scope="module")
def batching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model whose executions are long enough for others to queue up."""
    repository = tmp_path_factory.mktemp("repository")
    add_identity(repository, delay_ms=20, max_batch_size=ROWS, more="dynamic_batching {}")
    with penstock_server("--log-verbose=1", repository=repository) as server:
        yield server


def numbers(value: float, rows: int = 1) -> list[Any]:
    return [tensor(tritonclient.grpc, "x", np.full((rows, 1), value, np.float32))]


def value_of(result: Any) -> float:
    return float(result.as_numpy("y")[0, 0])


def test_the_client_of_callbacks_gets_everything_in_order(batching: Server) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(batching.grpc) as client:
        before = executions(client)
        client.start_stream(lambda result, error: answers.put((result, error)))
        for index in range(40):
            client.async_stream_infer("echo", numbers(index), request_id=str(index))
        client.stop_stream()
        runs = executions(client) - before
    found = [answers.get_nowait() for _ in range(40)]
    assert answers.empty()
    assert [value_of(result) for result, _ in found] == list(range(40))
    assert [result.get_response().id for result, _ in found] == [str(index) for index in range(40)]
    assert all(error is None for _, error in found)
    assert 40 / ROWS <= runs < 40


def executions(client: Any) -> int:
    [statistics] = client.get_inference_statistics("echo").model_stats
    return int(statistics.execution_count)


def test_an_error_reaches_the_callback_and_the_stream_goes_on(batching: Server) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(batching.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("nobody", numbers(1))
        client.async_stream_infer("echo", numbers(1, rows=ROWS + 1))
        client.async_stream_infer("echo", numbers(2))
        client.stop_stream()
    unknown, too_many, good = (answers.get_nowait() for _ in range(3))
    assert unknown[1].message() == "Request for unknown model: 'nobody' is not found"
    assert "batch-size must be <= 4" in too_many[1].message()
    for _, error in (unknown, too_many):
        batching.wait_for(f"grpc ModelStreamInfer .* in .*{re.escape(error.message())}$")
    assert value_of(good[0]) == 2


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_stream_may_be_packed(batching: Server, algorithm: str) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(batching.grpc) as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)), compression_algorithm=algorithm
        )
        client.async_stream_infer("echo", numbers(3, rows=ROWS))
        client.stop_stream()
    assert value_of(answers.get_nowait()[0]) == 3


async def test_the_asyncio_client_streams(batching: Server) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index in range(10):
            yield {"model_name": "echo", "inputs": numbers(index)}

    async with tritonclient.grpc.aio.InferenceServerClient(batching.grpc) as client:
        found = [each async for each in client.stream_infer(requests())]
    assert [value_of(result) for result, _ in found] == list(range(10))
    assert [error for _, error in found] == [None] * 10


async def test_errors_become_the_streams_status_where_the_client_wants_that(
    batching: Server,
) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "nobody", "inputs": numbers(1)}

    async with tritonclient.grpc.aio.InferenceServerClient(batching.grpc) as client:
        responses = client.stream_infer(requests(), headers={"triton_grpc_error": "true"})
        with pytest.raises(grpc.aio.AioRpcError, match="'nobody' is not found") as raised:
            await anext(responses)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_outlives_neither_its_server_nor_what_that_accepted(tmp_path: Path) -> None:
    add_identity(tmp_path, delay_ms=300)

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index in range(2):
            yield {"model_name": "echo", "inputs": numbers(index)}
        await asyncio.Event().wait()

    with penstock_server(repository=tmp_path) as server:
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
            responses = client.stream_infer(requests())
            assert value_of((await anext(responses))[0]) == 0
            server.process.terminate()
            assert value_of((await anext(responses))[0]) == 1
            with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping") as raised:
                await anext(responses)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 0
