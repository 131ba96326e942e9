"""The engine that the settings ask for, and its start."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from serving.engine.base import Engine
from serving.engine_settings import EngineKind
from serving.errors import ServingError
from serving.settings import Settings
from serving.types import ModelMetadata


class StartingEngine(Engine, Protocol):
    """An engine that has models to load before it is ready."""

    async def start(self) -> None:
        """Load what is to be served; LoadFailed tells of what failed, where that ends the start."""


def open_engine(settings: Settings) -> StartingEngine:
    """The engine, not started yet."""
    # Imported here: whoever only asks for --help need not have a runtime installed, and whoever
    # has Triton execute the models none at all.
    if settings.engine is EngineKind.TRITON:
        from serving.triton.engine import TritonEngine

        return TritonEngine(settings)
    from serving.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(settings)


async def start(engine: StartingEngine) -> Sequence[ModelMetadata]:
    """Start the engine; gives the models that are ready then, as far as that is known."""
    await engine.start()
    # What is somewhere else may not be there yet.
    with suppress(ServingError):
        ready = await engine.index(ready_only=True)
        asked = (engine.model_metadata(entry.name, entry.version) for entry in ready)
        return await asyncio.gather(*asked)
    return ()
