"""An engine whose every response a test decides, behind a real gRPC server."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2

from serving.dtypes import Datatype
from serving.errors import NotFound
from serving.gateway.extensions import Extensions
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.rpc import RpcServer
from serving.gateway.security import Security
from serving.inflight import Inflight
from serving.logs import Logs
from serving.settings import Settings
from serving.statistics import ServerStatistics, VersionStatistics
from serving.types import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    ModelMetadata,
    ServerMetadata,
    Tensor,
    TensorSpec,
)

SPEC = TensorSpec("x", Datatype.FP32, (1,))

Script: TypeAlias = Callable[[InferenceRequest], AsyncGenerator[InferenceResponse, None]]


class ScriptedEngine:
    """Answers by `models`: what each does with a request. Those in `decoupled` say that they are.

    `begun` lists the ids of the requests in the order in which they came, `ended` in that in which
    nothing was left to do for them, `most` is how many there were at once.
    """

    def __init__(self, decoupled: Sequence[str] = (), **models: Script) -> None:
        self._models = models
        self._decoupled = decoupled
        self._changed = asyncio.Condition()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.most = 0

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Until a request that begins or ends makes `predicate` true."""
        async with self._changed:
            await self._changed.wait_for(predicate)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        await self.model_config(request.model)
        self.begun.append(request.id)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        await self._notify()
        script = self._models[request.model](request)
        try:
            async for response in script:
                yield response
        finally:
            self.ended.append(request.id)
            # Also when it is cancelled, which the one who waits wants to know.
            await asyncio.shield(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        [response] = [response async for response in self.stream(request)]
        return response

    async def model_config(self, model: str, version: str = "") -> Any:
        if model not in self._models:
            raise NotFound(f"Request for unknown model: '{model}' is not found")
        config = model_config_pb2.ModelConfig(name=model)
        config.model_transaction_policy.decoupled = model in self._decoupled
        return config

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        return ModelMetadata(model, "1", ("1",), "scripted", 0, (SPEC,), (SPEC,))

    async def ready(self) -> bool:
        return True

    async def model_ready(self, model: str, version: str = "") -> bool:
        return model in self._models

    async def metadata(self) -> ServerMetadata:
        return ServerMetadata("scripted", "1", ())

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        return ()

    async def labels(self, model: str, version: str = "") -> Mapping[str, tuple[str, ...]]:
        return {}

    async def counted(self) -> Sequence[VersionStatistics]:
        return ()

    async def servers(self) -> Sequence[ServerStatistics]:
        return ()

    async def unloaded(self) -> Sequence[str]:
        return ()

    async def cache_statistics(self) -> None:
        return None

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        return ()

    async def load(self, model: str, override: LoadOverride) -> None:
        raise NotFound(model)

    async def unload(self, model: str, dependents: bool = False) -> None:
        raise NotFound(model)

    def watch(self, changed: Callable[[], None]) -> None:
        pass

    async def finish_sequences(self) -> None:
        pass

    async def close(self) -> None:
        pass


def response(request: InferenceRequest, value: float = 0.0) -> InferenceResponse:
    """One number, as the answer to `request`."""
    array = np.array([value], np.float32)
    return InferenceResponse(
        request.model, "1", (Tensor(SPEC.name, SPEC.datatype, array),), request.id
    )


async def echo(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    """The model that gives its input back."""
    yield response(request, float(request.inputs[0].array[0]))


def after(ready: Callable[[], Awaitable[Any]]) -> Script:
    """The model that gives its input back once `ready()` is."""

    async def answer(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        await ready()
        async for one in echo(request):
            yield one

    return answer


def message(model: str, id: str = "", value: float = 0.0, **parameters: bool | str) -> Any:
    """A request for one of the engine's models."""
    request = service_pb2.ModelInferRequest(model_name=model, id=id)
    tensor = request.inputs.add(name=SPEC.name, datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(value)
    for name, parameter in parameters.items():
        if isinstance(parameter, bool):
            request.parameters[name].bool_param = parameter
        else:
            request.parameters[name].string_param = parameter
    return request


@asynccontextmanager
async def serving(engine: ScriptedEngine, port: int = 0, **settings: Any) -> AsyncIterator[str]:
    """A gRPC server of ours over `engine` for the block; gives its address."""
    chosen = Settings(grpc_address="127.0.0.1", grpc_port=port, exit_timeout_secs=30, **settings)
    rpc = RpcServer(
        engine,
        Lifecycle(engine),
        chosen,
        Extensions.of(chosen, Logs(chosen)),
        Security.of(chosen),
        Inflight(chosen.max_inflight_bytes),
    )
    async with rpc.listen() as address:
        yield address
