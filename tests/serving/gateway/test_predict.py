"""/predict over an engine that does what each test needs."""

import threading
from typing import Any

import httpx
import pytest

from serving.wire import json_examples
from tests.serving.gateway.asgi import application
from tests.serving.gateway.scripted import ScriptedEngine, echo


@pytest.mark.parametrize(("size", "is_aside"), [(100, False), (100_000, True)])
async def test_others_go_on_while_a_long_example_is_read(
    monkeypatch: pytest.MonkeyPatch, size: int, is_aside: bool
) -> None:
    threads = []
    decode = json_examples.decode

    def decoded(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(*arguments)

    monkeypatch.setattr(json_examples, "decode", decoded)
    transport = httpx.ASGITransport(application(ScriptedEngine(m=echo)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/predict/m", content="[5]".ljust(size), headers=headers)
    assert answer.json()["outputs"] == {"x": {"shape": [1], "data": [5.0]}}
    assert [thread is not threading.current_thread() for thread in threads] == [is_aside]
