"""/predict over an engine that does what each test needs."""

import threading
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.types import InferenceRequest, InferenceResponse, Tensor
from serving.wire import images, json_examples
from tests.serving.gateway.asgi import application
from tests.serving.gateway.scripted import ScriptedEngine, echo
from tests.serving.gateway.threads import threads_of


class Painter(ScriptedEngine):
    """Its models say that they answer with pictures."""

    async def model_config(self, model: str, version: str = "") -> Any:
        config = await super().model_config(model, version)
        config.parameters["prediction"].string_value = "image"
        return config


async def paint(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    picture = Tensor("image", Datatype.FP32, np.zeros((1, 1, 2, 2), np.float32))
    yield InferenceResponse(request.model, "1", (picture,))


@pytest.mark.parametrize(("size", "is_aside"), [(100, False), (100_000, True)])
async def test_others_go_on_while_a_long_example_is_read(
    monkeypatch: pytest.MonkeyPatch, size: int, is_aside: bool
) -> None:
    threads = threads_of(monkeypatch, json_examples, "decode")
    transport = httpx.ASGITransport(application(ScriptedEngine(m=echo)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/predict/m", content="[5]".ljust(size), headers=headers)
    assert answer.json()["outputs"] == {"x": {"shape": [1], "data": [5.0]}}
    assert [thread is not threading.current_thread() for thread in threads] == [is_aside]


@pytest.mark.parametrize("accept", ["image/png", "application/json"])
async def test_others_go_on_while_pictures_are_packed(
    monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    threads = threads_of(monkeypatch, images, "encode")
    transport = httpx.ASGITransport(application(Painter(m=paint)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"content-type": "application/json", "accept": accept}
        answer = await client.post("/predict/m", content="[5]", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, accept)
    assert len(threads) == 1
    assert threading.current_thread() not in threads
