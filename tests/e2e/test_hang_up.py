"""A client that hangs up frees what it asked for, before it is computed."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.repositories import add_identity
from tests.e2e.server import penstock_server

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/echo/infer", {"inputs": [TENSOR]}),
        ("/v2/models/echo/generate", {"x": 1.0}),
        ("/v2/models/echo/generate_stream", {"x": 1.0}),
        ("/predict/echo", [1.0]),
    ],
)
async def test_requests_are_dropped_when_their_clients_hang_up(
    tmp_path: Path, path: str, body: Any
) -> None:
    add_identity(tmp_path, delay_ms=500)
    with penstock_server(repository=tmp_path) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=0.1) as impatient:
            requests = [impatient.post(path, json=body) for _ in range(3)]
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [httpx.ReadTimeout] * 3
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as patient:
            # Answered after whatever was queued before it.
            await patient.post(path, json=body)
            answer = await patient.get("/v2/models/echo/stats")
    [statistics] = answer.json()["model_stats"]
    # The first of the three ran already when its client went; the others never did.
    assert statistics["execution_count"] == 2
    assert statistics["inference_stats"]["fail"]["count"] == 3
