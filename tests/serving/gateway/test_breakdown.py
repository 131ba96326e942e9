"""A server that can do no more of its work ends by itself, so that another may take its place."""

import asyncio

import pytest

from serving import breakdown
from serving.errors import Internal
from serving.gateway.extensions import Extensions
from serving.gateway.server import serve
from serving.logs import Logs
from serving.settings import Settings
from tests.serving.gateway.scripted import ScriptedEngine

SETTINGS = Settings(
    http_address="127.0.0.1",
    http_port=0,
    allow_grpc=False,
    allow_metrics=False,
    exit_grace_secs=600,
)


@pytest.mark.parametrize("is_ready", [True, False])
async def test_what_breaks_down_ends_the_server_at_once_with_the_reason(is_ready: bool) -> None:
    loading, announced = asyncio.Event(), asyncio.Event()

    async def load() -> None:
        loading.set()
        if not is_ready:
            await asyncio.Event().wait()

    extensions = Extensions.of(SETTINGS, Logs(SETTINGS))
    serving = serve(ScriptedEngine(), SETTINGS, extensions, load, lambda _: announced.set())
    running = asyncio.create_task(serving)
    await (announced if is_ready else loading).wait()
    # By the thread whose run has failed.
    await asyncio.to_thread(breakdown.tell, "GPU 0 is lost")
    await asyncio.to_thread(breakdown.tell, "GPU 1 as well")
    with pytest.raises(Internal, match=r"^GPU 0 is lost$"):
        await running


def test_where_nobody_serves_nobody_is_told() -> None:
    breakdown.tell("GPU 0 is lost")
