"""The engine in this process: loads a repository's models and runs them itself."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from serving import __version__
from serving.config import Completion
from serving.engine import survey
from serving.engine.agreement import steps
from serving.engine.assemble import assemble
from serving.engine.backends.base import Backend
from serving.engine.backends.gpus import find_gpus
from serving.engine.batching.loop_time import LoopTime
from serving.engine.cache import ResponseCache
from serving.engine.control import ModelControl
from serving.engine.loading import Loader, Plan, default_backends
from serving.engine.places import Place
from serving.engine.polling import Poller
from serving.engine.registry import Registry
from serving.engine.repository import Repository, canonical_version
from serving.engine.rollout import Rollout
from serving.engine.servable import Opened, Servable
from serving.engine.snapshot import take
from serving.engine_settings import AcceleratorBuild
from serving.errors import (
    Elsewhere,
    InvalidArgument,
    LoadFailed,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.layout import Demand
from serving.location import Location
from serving.settings import ModelControlMode, Settings
from serving.statistics import CacheStatistics, ServerStatistics, VersionStatistics
from serving.threads import available_cpus, processors
from serving.types import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    ModelMetadata,
    ModelState,
    ServerMetadata,
    TensorSpec,
)

logger = logging.getLogger("penstock.engine")

# Seconds, in which most models have been loaded.
_RETRY_AFTER: Final = 1.0
EXTENSIONS: Final = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)


class EmbeddedEngine:
    """Serves models of the repositories from this process, those that the control mode says."""

    def __init__(self, settings: Settings, backends: dict[str, Backend] | None = None) -> None:
        self._settings = settings
        self._mode = settings.model_control_mode
        cache = settings.model_repository_cache
        locations = dict.fromkeys(settings.model_repository)
        self._repository = Repository([_place(location, cache) for location in locations])
        self._registry = Registry()
        self._cache = ResponseCache(settings.cache_size) if settings.cache_size else None
        self._loop_time = LoopTime(available_cpus())
        # Once, as it takes CUDA a while.
        self._gpus = lru_cache(partial(find_gpus, settings.device))
        self._loader = Loader(
            backends or default_backends(),
            settings.passport_policy,
            Completion(not settings.auto_complete, settings.default_max_batch_size),
            settings.model_load_retry_count,
            self._gpus,
            builds_aside=settings.accelerator_build is AcceleratorBuild.BACKGROUND,
        )
        rollout = Rollout(
            self._loader, self._registry, self._assemble, settings.model_load_thread_count
        )
        self._control = ModelControl(self._repository, self._registry, rollout)
        self._poller = Poller(self._repository, self._registry, self._control, rollout)
        # Not the loop's own threads: a store that does not answer would take them all.
        self._listing = ThreadPoolExecutor(1, "penstock-index")
        self._polling: asyncio.Task[None] | None = None
        self._started = False
        self._closing = False

    async def start(self) -> None:
        """Load what is to be served; with `exit_on_error` LoadFailed tells of all that failed.

        It does so too where the settings ask for a GPU that cannot be had.
        """
        found = processors()
        logger.info("processors: %s; threads for each model: %d", found, found.for_models)
        logger.info("GPUs: %s", await asyncio.to_thread(self._gpus))
        names = self._at_start(await asyncio.to_thread(self._repository.names))
        results = await asyncio.gather(*map(self._control.load, names), return_exceptions=True)
        failures = [self._failure(*outcome) for outcome in zip(names, results, strict=True)]
        if not names and self._mode is ModelControlMode.NONE:
            places = ", ".join(map(str, self._settings.model_repository))
            failures.append(
                f"{places}: no model to serve; expected NAME/VERSION/model.onnx, as penstock "
                "export writes it"
            )
        if any(failures) and self._settings.exit_on_error:
            raise LoadFailed("\n".join(filter(None, failures)))
        for failure in filter(None, failures):
            logger.error("%s", failure)
        self._started = True
        if self._mode is ModelControlMode.POLL and self._settings.repository_poll_secs:
            polling = self._poller.run(self._settings.repository_poll_secs)
            self._polling = asyncio.create_task(polling)

    def survey(self) -> tuple[tuple[int, ...], list[Demand]]:
        """The GPUs that models may use, and what asks for them; takes long, and opens no model."""
        gpus = self._gpus().ids
        demands = survey.demands(self._repository, self._loader) if len(gpus) > 1 else []
        if self._mode is not ModelControlMode.NONE:
            demands.append(Demand(frozenset(gpus)))  # of what is still to come
        return gpus, demands

    def _at_start(self, present: Sequence[str]) -> Sequence[str]:
        """The models to load at start, of those that are `present`."""
        named = tuple(dict.fromkeys(self._settings.load_model))
        is_explicit = self._mode is ModelControlMode.EXPLICIT
        return named if is_explicit and named != ("*",) else present

    def _failure(self, name: str, outcome: BaseException | None) -> str:
        """Why the model did not load, if it did not."""
        if outcome is None or isinstance(outcome, Elsewhere):
            return ""
        if not isinstance(outcome, ServingError):
            raise outcome
        # Whatever the reason: it was to be there from the start.
        self._registry.require(name)
        record = self._registry.get(name)
        return f"failed to load '{name}': {record.failure}" if record else outcome.message

    def _assemble(self, opened: Opened) -> Servable:
        limit, find = self._settings.max_queue_size, self._registry.find
        return assemble(opened, limit, find, self._cache, self._loop_time, self._settings.metrics)

    async def ready(self) -> bool:
        """True once every model that is wanted answers (`strict_readiness`), or else what can.

        Where models come and go, none at all is as it should be.
        """
        if not self._started or self._closing:
            return False
        if self._mode is ModelControlMode.NONE and not any(r.serving for r in self._registry):
            return False
        return not self._settings.strict_readiness or self._registry.ready()

    async def metadata(self) -> ServerMetadata:
        """What this server is."""
        return ServerMetadata(self._settings.id, __version__, EXTENSIONS)

    async def model_ready(self, model: str, version: str = "") -> bool:
        """True if that version answers."""
        try:
            self._find(model, version)
        except InvalidArgument:
            raise
        except ServingError:
            return False
        return not self._closing

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The signature and the passport of that version."""
        found = self._find(model, version)
        opened = found.opened
        config = opened.config
        return ModelMetadata(
            name=model,
            version=opened.version,
            versions=(opened.version,) if version else self._registry.versions(model),
            platform=config.platform,
            max_batch_size=config.max_batch_size,
            inputs=_public(config.inputs, config.max_batch_size),
            outputs=_public(config.outputs, config.max_batch_size),
            formats=config.formats,
            passport=opened.passport.to_dict() if opened.passport else None,
            tokenizer=opened.tokenizer,
        )

    async def labels(self, model: str, version: str = "") -> Mapping[str, tuple[str, ...]]:
        """The class names that lie beside that version."""
        return self._find(model, version).opened.labels

    async def model_config(self, model: str, version: str = "") -> Any:
        """The complete configuration of that version."""
        return self._find(model, version).opened.config.proto

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """The counters; an unknown model is an invalid argument here, as Triton has it."""
        if not model:
            records = sorted(self._registry, key=lambda record: record.name)
            served = [one for record in records for one in record.serving.values()]
            return [one.servable.statistics for one in served]
        record = self._registry.get(model)
        if record is None or not record.serving:
            raise InvalidArgument(f"requested model '{model}' is not available")
        number = canonical_version(version)
        if number and number not in record.serving:
            raise InvalidArgument(f"requested model version is not available for model '{model}'")
        wanted = [number] if number else record.serving
        return [record.serving[one].servable.statistics for one in wanted]

    async def counted(self) -> Sequence[VersionStatistics]:
        """The statistics: nobody else counts."""
        return await self.statistics()

    async def servers(self) -> Sequence[ServerStatistics]:
        """None: this process executes the models."""
        return ()

    async def unloaded(self) -> Sequence[str]:
        """Those whose last load failed, whatever serves of them."""
        return sorted(one.name for one in self._registry if one.wanted and one.failure)

    async def cache_statistics(self) -> CacheStatistics | None:
        """Counters of the response cache; None if the settings ask for none."""
        return self._cache.statistics if self._cache else None

    def infer(self, request: InferenceRequest) -> Coroutine[Any, Any, InferenceResponse]:
        """Run the request in the next batch of its model."""
        # The model's own coroutine: one more around it would cost each request some of its time.
        return self._find(request.model, request.version).infer(request)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses as they are made; one, unless the model is decoupled."""
        servable = self._find(request.model, request.version)
        async with aclosing(servable.stream(request)) as responses:
            async for response in responses:
                yield response

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Every model of the repositories and every version that is or was in service."""
        loop = asyncio.get_running_loop()
        try:
            listing = loop.run_in_executor(self._listing, self._repository.places)
        except RuntimeError as error:  # the thread's pool is closed
            raise Unavailable("the server has stopped and lists no models any more") from error
        places = await listing
        entries = self._registry.index({name: len(paths) for name, paths in places.items()})
        return [one for one in entries if not ready_only or one.state is ModelState.READY]

    async def load(self, model: str, override: LoadOverride) -> None:
        """Load or reload a model; the old version serves until the new one is ready."""
        self._refuse_unless_explicit()
        try:
            await self._control.load(model, override)
        except ServingError as error:
            logger.error("%s", error.message)
            raise

    def in_force(self, model: str, given: LoadOverride) -> LoadOverride | None:
        """What `model` is still served with of what was `given` with its last load that had any.

        None: nothing, since a later load found its folder changed, or the files of the repository.
        Of a model that is not served here, all, as far as is known.
        """
        record = self._registry.get(model)
        if record is None or not record.serving or record.plan is None:
            return given
        if record.override is None:
            return None
        return replace(given, files={}) if record.plan.folder.lasts else given

    async def outdated(self) -> Sequence[str]:
        """The models whose folders have changed since they were loaded, and can be read."""
        plans = [record.plan for record in self._registry if record.serving and record.plan]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._listing, self._changed, plans)

    def _changed(self, plans: Sequence[Plan]) -> list[str]:
        changed = []
        for plan in plans:
            name, stays = plan.folder.name, not plan.folder.lasts  # what a client brought
            with suppress(ServingError):
                if not stays and take(self._repository.find(name)) != plan.snapshot:
                    changed.append(name)
        return changed

    def prepare(self, model: str, override: LoadOverride) -> AsyncGenerator[None, None]:
        """The steps of a load that other processes make as well, see `agreement`."""
        return steps(partial(self.load, model, override))

    async def unload(self, model: str, dependents: bool = False) -> None:
        """Take a model out of service; what it has accepted is answered."""
        self._refuse_unless_explicit()
        await self._control.unload(model, dependents)

    async def poll(self) -> None:
        """Look for changes in the repositories now, as poll mode does by itself."""
        await self._poller.poll()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each load and unload, whoever asked for it."""
        self._control.watch(changed)

    async def finish_sequences(self) -> None:
        """Have no sequence begin any more, of any model; returns once all are over."""
        servables = [one.servable for record in self._registry for one in record.serving.values()]
        await asyncio.gather(*(servable.finish_sequences() for servable in servables))

    async def close(self) -> None:
        """Refuse what comes, answer what was accepted, release the models."""
        self._closing = True
        if self._polling:
            self._polling.cancel()
        self._repository.close()
        await self._control.close()
        self._listing.shutdown(wait=False)

    def _refuse_unless_explicit(self) -> None:
        if self._mode is not ModelControlMode.EXPLICIT:
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    def _find(self, name: str, version: str) -> Servable:
        if self._closing:
            raise Unavailable("the server is stopping and does not accept new requests")
        try:
            return self._registry.find(name, canonical_version(version) if version else "")
        except NotFound:
            if self._started or self._registry.serves(name):
                raise
            raise Unavailable(
                f"model '{name}' does not answer yet: the server is loading models", _RETRY_AFTER
            ) from None


def _place(location: Location, cache: Path) -> Path | Place:
    """The repository at `location`; what comes from behind a URL lies in the folder `cache`."""
    if isinstance(location, Path):
        return location
    # Imported here: whoever serves folders only need not have fsspec installed.
    from serving.storage.mirror import Mirror

    return Mirror(location, cache)


def _public(specs: Sequence[TensorSpec], max_batch_size: int) -> tuple[TensorSpec, ...]:
    """The specs as clients see them: with the batch dimension where the model batches."""
    if not max_batch_size:
        return tuple(specs)
    return tuple(
        TensorSpec(spec.name, spec.datatype, (-1, *spec.dims), spec.optional) for spec in specs
    )
