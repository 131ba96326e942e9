"""Under load from real clients, the swap to an accelerator loses no request and no answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from serving.devices import Gpus
from serving.engine import embedded
from serving.engine.embedded import EmbeddedEngine
from serving.gateway.extensions import Extensions
from serving.gateway.server import Addresses, serve
from serving.logs import Logs
from serving.settings import PassportPolicy, Settings
from serving.statistics import BuildState
from tests.e2e.clients import connect
from tests.serving.engine.accelerating import Accelerating, add, settled
from tests.serving.engine.numbered import SECONDS

CLIENTS: Final = ("http.aio", "grpc.aio") * 2
MANY: Final = 50


class Asked:
    """The requests that were answered, and wrongly if any were."""

    def __init__(self) -> None:
        self.answered = 0
        self.wrong: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def count(self, client: str, given: float, answer: Any) -> None:
        self.answered += 1
        if answer.tolist() != [[2 * given, -2 * given]]:
            self.wrong[client] += 1
        async with self._changed:
            self._changed.notify_all()

    async def more(self, requests: int) -> None:
        """Once so many more were answered."""
        enough = self.answered + requests
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.answered >= enough)


@asynccontextmanager
async def gateway(engine: EmbeddedEngine, settings: Settings) -> AsyncIterator[Addresses]:
    """A server over the engine, ready as the block begins."""
    ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    extensions = Extensions.of(settings, Logs(settings))
    running = asyncio.create_task(
        serve(engine, settings, extensions, engine.start, ready.set_result)
    )
    try:
        async with asyncio.timeout(SECONDS):
            yield await ready
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def ask(name: str, addresses: Any, asked: Asked, stop: asyncio.Event) -> None:
    """Ask until `stop`; what is not answered is raised."""
    async with connect(name, addresses) as client:
        given = 0.0
        while not stop.is_set():
            given += 1
            result = await client.infer("m", {"x": np.array([[given, -given]], np.float32)})
            await asked.count(name, given, result.as_numpy("y"))


async def test_no_request_is_lost_and_no_answer_wrong_before_while_and_after_the_swap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_gpus", lambda wish: Gpus((0,)))
    add(tmp_path)
    settings = Settings(
        model_repository=(tmp_path,),
        passport_policy=PassportPolicy.OFF,
        http_address="127.0.0.1",
        http_port=0,
        grpc_address="127.0.0.1",
        grpc_port=0,
        allow_metrics=False,
    )
    backend = Accelerating()
    backend.building.shut()
    engine = EmbeddedEngine(settings, {"onnxruntime": backend})
    asked, stop = Asked(), asyncio.Event()
    async with gateway(engine, settings) as addresses:
        async with asyncio.TaskGroup() as clients:
            for name in CLIENTS:
                clients.create_task(ask(name, addresses, asked, stop))
            await asked.more(MANY)
            backend.building.open()
            assert await settled(engine) == (BuildState.IN_USE, "")
            plain, accelerated = backend.sessions
            before = accelerated.runs
            await asked.more(MANY)
            stop.set()
        [statistics] = await engine.statistics("m")
    assert accelerated.runs > before
    assert plain.closed
    assert not asked.wrong
    assert (statistics.success.count, statistics.fail.count) == (asked.answered, 0)
