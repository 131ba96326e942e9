"""A scrape of a server of very many models, which others are not to wait for."""

import asyncio
from collections.abc import Sequence

import httpx

from serving.engine.embedded import EmbeddedEngine
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.metrics import metrics_app
from serving.settings import Settings
from serving.statistics import VersionStatistics

MODELS = 50


class ManyModels(EmbeddedEngine):
    """As if so many were loaded."""

    async def counted(self) -> Sequence[VersionStatistics]:
        return [VersionStatistics(f"m{number}", "1") for number in range(MODELS)]


async def turns(count: list[int]) -> None:
    """Count the turns of the event loop until cancelled."""
    while True:
        count[0] += 1
        await asyncio.sleep(0)


async def test_requests_are_answered_between_any_two_models_of_a_scrape() -> None:
    settings = Settings()
    engine = ManyModels(settings)
    app = metrics_app(engine, Lifecycle(engine), settings)
    counted = [0]
    counting = asyncio.create_task(turns(counted))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://penstock"
    ) as client:
        scraped = (await client.get("/metrics")).text
    counting.cancel()
    await engine.close()

    assert scraped.count("nv_inference_count{") == MODELS
    # Of each family there is one, whatever pieces it was made of.
    assert scraped.count("# TYPE nv_inference_count counter") == 1
    assert counted[0] >= MODELS
