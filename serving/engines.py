"""The engine that the settings ask for, and its start."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Protocol

from serving.devices import Device
from serving.engine.base import Engine
from serving.engine_settings import EngineKind
from serving.errors import LoadFailed, ServingError
from serving.layout import Demand, layout
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
    return await serving(engine)


async def serving(engine: Engine) -> Sequence[ModelMetadata]:
    """The models that are ready now, as far as that is known."""
    # What is somewhere else may not be there yet.
    with suppress(ServingError):
        ready = await engine.index(ready_only=True)
        asked = (engine.model_metadata(entry.name, entry.version) for entry in ready)
        return await asyncio.gather(*asked)
    return ()


def processes(settings: Settings) -> list[list[int]]:
    """The GPUs of each engine process that the settings ask for, see `layout`.

    LoadFailed where they ask for GPUs that cannot be had.
    """
    gpus: tuple[int, ...] = ()
    demands: Sequence[Demand] = ()
    if settings.engines != 1 and may_have_gpus(settings):
        # What has looked for GPUs can have no children that use them.
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            try:
                gpus, demands = pool.submit(_survey, settings).result()
            except BrokenProcessPool as error:
                raise LoadFailed(
                    "the process that looked for GPUs crashed: the driver, or a library of CUDA's, "
                    "is broken, as nvidia-smi or penstock doctor may show; --device=cpu looks for "
                    "none"
                ) from error
    return layout(gpus, demands, settings.engines)


def _survey(settings: Settings) -> tuple[tuple[int, ...], Sequence[Demand]]:
    from serving.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(settings).survey()


def may_have_gpus(settings: Settings) -> bool:
    """Whether models may execute on GPUs here; whether there are any takes time to find out."""
    runtime = find_spec("onnxruntime")
    if settings.device.device is Device.CPU or settings.engine is not EngineKind.EMBEDDED:
        return False
    if runtime is None or runtime.origin is None:
        return False
    return settings.device.is_binding or Path(runtime.origin).parent.joinpath(_CUDA).exists()


# What ONNX Runtime is installed with where it can execute on GPUs.
_CUDA: Final = "capi/libonnxruntime_providers_cuda.so"
