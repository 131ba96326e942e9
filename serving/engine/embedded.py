"""The engine in this process: loads a repository's models and runs them itself."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from serving import __version__
from serving.engine.assemble import assemble
from serving.engine.backends.base import Backend
from serving.engine.loading import Loader, default_backends
from serving.engine.repository import Repository, is_version
from serving.engine.servable import Servable
from serving.errors import InvalidArgument, LoadFailed, NotFound, ServingError, Unavailable
from serving.settings import Settings
from serving.statistics import VersionStatistics
from serving.types import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelState,
    Parameters,
    ServerMetadata,
    TensorSpec,
)

logger = logging.getLogger("penstock.engine")

EXTENSIONS: Final = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)


@dataclass(slots=True)
class _Model:
    """A model of the repository: the versions that answer, ascending, or why none does."""

    versions: dict[str, Servable] = field(default_factory=dict)
    failure: str = ""


class EmbeddedEngine:
    """Serves every model of the repositories from this process."""

    def __init__(self, settings: Settings, backends: dict[str, Backend] | None = None) -> None:
        self._settings = settings
        self._repository = Repository(settings.model_repository)
        self._loader = Loader(backends or default_backends(), settings.passport_policy)
        self._models: dict[str, _Model] = {}
        self._started = False
        self._closing = False

    async def start(self) -> None:
        """Load every model; with `exit_on_error` LoadFailed tells of all that did not load."""
        names = await asyncio.to_thread(self._repository.names)
        for name in names:
            self._models[name] = await self._load(name)
        failures = [model.failure for model in self._models.values() if model.failure]
        if not names:
            places = ", ".join(map(str, self._settings.model_repository))
            failures = [
                f"{places}: no model to serve; expected NAME/VERSION/model.onnx, as penstock "
                "export writes it"
            ]
        if failures and self._settings.exit_on_error:
            raise LoadFailed("\n".join(failures))
        for failure in failures:
            logger.error("%s", failure)
        self._started = True

    async def _load(self, name: str) -> _Model:
        begin = time.monotonic()
        try:
            folder = await asyncio.to_thread(self._repository.find, name)
            opened = await asyncio.to_thread(self._loader.open, folder)
        except ServingError as error:
            return _Model(failure=f"failed to load '{name}': {error.message}")
        versions = {
            one.version: assemble(one, self._settings.max_queue_size, self._find) for one in opened
        }
        logger.info(
            "loaded %s version %s in %.2f s",
            name,
            ", ".join(versions),
            time.monotonic() - begin,
        )
        return _Model(versions)

    async def live(self) -> bool:
        """Always: whoever gets an answer knows."""
        return True

    async def ready(self) -> bool:
        """True once every model answers (`strict_readiness`), or else those that can."""
        if not self._started or self._closing or not self._models:
            return False
        return not self._settings.strict_readiness or all(
            model.versions for model in self._models.values()
        )

    async def metadata(self) -> ServerMetadata:
        """What this server is."""
        return ServerMetadata("penstock", __version__, EXTENSIONS)

    async def model_ready(self, model: str, version: str = "") -> bool:
        """True if that version answers."""
        try:
            self._find(model, version)
        except ServingError:
            return False
        return not self._closing

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The signature, labels and passport of that version."""
        found = self._find(model, version)
        opened = found.opened
        config = opened.config
        return ModelMetadata(
            name=model,
            version=opened.version,
            versions=tuple(self._models[model].versions),
            platform=config.platform,
            max_batch_size=config.max_batch_size,
            inputs=_public(config.inputs, config.max_batch_size),
            outputs=_public(config.outputs, config.max_batch_size),
            formats=config.formats,
            labels=opened.labels,
            passport=opened.passport.to_dict() if opened.passport else None,
        )

    async def model_config(self, model: str, version: str = "") -> Any:
        """The complete configuration of that version."""
        return self._find(model, version).opened.config.proto

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """The counters; an unknown model is an invalid argument here, as Triton has it."""
        if not model:
            found = [one for entry in self._models.values() for one in entry.versions.values()]
        elif version or model not in self._models:
            try:
                found = [self._find(model, version)]
            except NotFound as error:
                raise InvalidArgument(error.message) from None
        else:
            found = list(self._models[model].versions.values())
        return [one.statistics for one in found]

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Run the request in the next batch of its model."""
        return await self._find(request.model, request.version).infer(request)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The one response that a model of this engine gives."""
        yield await self.infer(request)

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Every model; one line for each version that answers, one with the reason if none does."""
        entries = []
        for name, model in sorted(self._models.items()):
            entries += [IndexEntry(name, version, ModelState.READY) for version in model.versions]
            if model.failure and not ready_only:
                entries.append(IndexEntry(name, "", ModelState.UNAVAILABLE, model.failure))
        return entries

    async def load(self, model: str, parameters: Parameters) -> None:
        """Refused: the models are those of the repository at start."""
        raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    async def unload(self, model: str, dependents: bool = False) -> None:
        """Refused: the models are those of the repository at start."""
        raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    async def close(self) -> None:
        """Refuse what comes, answer what was accepted, release the models."""
        self._closing = True
        await asyncio.gather(
            *(one.close() for model in self._models.values() for one in model.versions.values())
        )

    def _find(self, name: str, version: str) -> Servable:
        if self._closing:
            raise Unavailable("the server is stopping and does not accept new requests")
        model = self._models.get(name)
        if model is None and not self._started:
            raise Unavailable(f"model '{name}' does not answer yet: the server is loading models")
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        if not model.versions:
            raise Unavailable(f"Request for unknown model: '{name}' has no available versions")
        if not version:
            return model.versions[next(reversed(model.versions))]
        if not is_version(version):
            raise InvalidArgument(
                f"version {version!r} of model '{name}' is not a version; expected a whole number "
                "above 0"
            )
        found = model.versions.get(version)
        if found is None:
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        return found


def _public(specs: Sequence[TensorSpec], max_batch_size: int) -> tuple[TensorSpec, ...]:
    """The specs as clients see them: with the batch dimension where the model batches."""
    if not max_batch_size:
        return tuple(specs)
    return tuple(
        TensorSpec(spec.name, spec.datatype, (-1, *spec.dims), spec.optional) for spec in specs
    )
