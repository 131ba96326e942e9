"""What is kept for models whose requests are gathered, and for how long."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine_settings import EngineKind
from serving.errors import NotFound
from serving.settings import Settings
from serving.triton.engine import TritonEngine
from serving.types import InferenceRequest, InferenceResponse, Tensor
from tests.serving.gateway.scripted import ScriptedEngine, serving

TENSOR: Final = Tensor("x", Datatype.FP32, np.ones((1, 1), np.float32))
REQUEST: Final = InferenceRequest("some-model", (TENSOR,))


class Unbatched(ScriptedEngine):
    """Its models take batches, and it makes none; those in `gone` are not there any more."""

    def __init__(self, **models: Any) -> None:
        super().__init__(**models)
        self.gone: set[str] = set()

    async def model_config(self, model: str, version: str = "") -> Any:
        if model in self.gone:
            raise NotFound(f"Request for unknown model: '{model}' is not found")
        config = await super().model_config(model, version)
        config.max_batch_size = 8
        config.input.add(name="x", data_type="TYPE_FP32", dims=[1])
        config.output.add(name="x", data_type="TYPE_FP32", dims=[1])
        return config


async def back(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    """The model that gives its input back."""
    yield InferenceResponse(request.model, "1", request.inputs, request.id)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if "some-model" in each.name]


@asynccontextmanager
async def gathering(server: Unbatched) -> AsyncIterator[TritonEngine]:
    """The engine that gathers requests for that server."""
    async with serving(server) as address:
        settings = Settings(engine=EngineKind.TRITON, triton_url=(address,), gateway_batching=True)
        engine = TritonEngine(settings)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


async def test_a_call_is_ended_when_the_last_of_its_callers_has_gone() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()
    is_endless = True

    async def endless(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        asked.set()
        try:
            if is_endless:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise
        yield InferenceResponse(request.model, "1", request.inputs, request.id)

    async with gathering(Unbatched(**{"some-model": endless})) as engine:
        call = asyncio.create_task(engine.infer(REQUEST))
        await asked.wait()
        call.cancel()
        await ended.wait()
        # The one call at a time that there may be is there for the next.
        is_endless = False
        assert (await engine.infer(REQUEST)).outputs[0].array.tolist() == [[1]]


async def test_a_model_that_is_gone_leaves_no_threads() -> None:
    server = Unbatched(**{"some-model": back})
    async with gathering(server) as engine:
        await engine.infer(REQUEST)
        assert threads()
        server.gone.add("some-model")
        with pytest.raises(NotFound):
            await engine.unload("some-model")  # after which everything is asked anew
        with pytest.raises(NotFound):
            await engine.infer(REQUEST)
        async with asyncio.timeout(60):
            while threads():  # noqa: ASYNC110  nobody tells when they have ended
                await asyncio.sleep(0.001)
