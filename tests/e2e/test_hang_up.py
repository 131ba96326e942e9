"""A client that hangs up frees what it asked for, before it is computed."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.e2e.repositories import add_identity
from tests.e2e.scrape import until_pending
from tests.e2e.server import Server, penstock_server

TENSOR: Final = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
# A model for each test.
WAYS: Final = {
    "infer": ("/v2/models/infer/infer", {"inputs": [TENSOR]}),
    "generate": ("/v2/models/generate/generate", {"x": 1.0}),
    "stream": ("/v2/models/stream/generate_stream", {"x": 1.0}),
    "predict": ("/predict/predict", [1.0]),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    for model in WAYS:
        add_identity(repository, model, delay_ms=1500)
    with penstock_server(repository=repository) as running:
        yield running


@pytest.mark.parametrize("model", WAYS)
async def test_requests_are_dropped_when_their_clients_hang_up(server: Server, model: str) -> None:
    path, body = WAYS[model]
    async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=False) as impatient:
        requests: list[asyncio.Task[Any]] = [
            asyncio.create_task(impatient.post(path, json=body)) for _ in range(3)
        ]
        assert await until_pending(server, model, 2, requests)
        for request in requests:
            assert request.cancel()
        await asyncio.wait(requests)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=False) as patient:
        # Answered after whatever was queued before it.
        await patient.post(path, json=body)
        answer = await patient.get(f"/v2/models/{model}/stats")
    [statistics] = answer.json()["model_stats"]
    # The first of the three ran already when its client went; the others never did.
    assert statistics["execution_count"] == 2
    assert statistics["inference_stats"]["fail"]["count"] == 3
