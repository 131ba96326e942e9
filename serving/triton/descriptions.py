"""What the servers' models say of themselves: asked once in a while, not for each request."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from tritonclient.grpc import service_pb2

from serving.triton import labels
from serving.triton.fleet import Fleet
from serving.triton.labels import Labels
from serving.triton.link import soon
from serving.types import ModelMetadata
from serving.wire import proto_replies

# Seconds for which an answer holds: a model may be another at any time, as its server has it.
_FRESH: Final = 1.0
# Answers that are kept; beyond that, all are asked anew.
_MAX_KEPT: Final = 1024

_Key: TypeAlias = tuple[Any, ...]


class Descriptions:
    """Configurations, signatures and labels of the models of `fleet`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._kept: dict[_Key, tuple[float, Any]] = {}
        # They cost an inference: they hold as long as the configuration does.
        self._labels: dict[tuple[str, str], tuple[Any, Labels]] = {}

    async def config(self, model: str, version: str) -> Any:
        """The `inference.ModelConfig` in force. Raises ServingError."""
        return await self._fresh(self._ask_config, model, version)

    async def metadata(self, model: str, version: str) -> ModelMetadata:
        """The model's signature. Raises ServingError."""
        found: ModelMetadata = await self._fresh(self._ask_metadata, model, version)
        return found

    async def labels(self, model: str, version: str) -> Labels:
        """The class names of the outputs that have them, as far as they can be had now."""
        config = await self.config(model, version)
        known, found = self._labels.get((model, version), (None, {}))
        if known == config:
            return found
        asked = await labels.ask(self._fleet, config, model, version)
        if asked is not None:
            _keep(self._labels, (model, version), (config, asked))
        return asked or {}

    def forget(self) -> None:
        """Have everything asked anew."""
        self._kept.clear()
        self._labels.clear()

    async def _fresh(
        self, ask: Callable[[str, str], Awaitable[Any]], model: str, version: str
    ) -> Any:
        key, now = (ask, model, version), time.monotonic()
        if key in self._kept and now - self._kept[key][0] < _FRESH:
            return self._kept[key][1]
        answer = await ask(model, version)
        _keep(self._kept, key, (now, answer))
        return answer

    async def _ask_config(self, model: str, version: str) -> Any:
        request = service_pb2.ModelConfigRequest(name=model, version=version)
        return (await self._fleet.call("ModelConfig", request, soon())).config

    async def _ask_metadata(self, model: str, version: str) -> ModelMetadata:
        request = service_pb2.ModelMetadataRequest(name=model, version=version)
        said, config = await asyncio.gather(
            self._fleet.call("ModelMetadata", request, soon()), self.config(model, version)
        )
        preferred = version or max(said.versions, key=_number, default="")
        return proto_replies.model_metadata(said, config, preferred)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = value


def _number(version: str) -> int:
    """For the order of versions: the one that most policies prefer is the greatest."""
    return int(version) if version.isdecimal() else -1
