"""Real servables around functions, for the tests of what stands above them."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.config import Source, complete, complete_ensemble, parse, resolve
from serving.dtypes import Datatype
from serving.engine.assemble import assemble
from serving.engine.cache import ResponseCache
from serving.engine.servable import Opened, Servable
from serving.errors import NotFound, Unavailable
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    Signature,
    Tensor,
    TensorSpec,
)

Function = Callable[[Array], Array]

MAX_QUEUE = 64

CONFIG = """\
backend: "identity" max_batch_size: {batch}
input {{ name: "x" data_type: TYPE_FP32 dims: {dims} }}
output {{ name: "y" data_type: TYPE_FP32 dims: {dims} }}
{batching}
{more}
"""


def double(x: Array) -> Array:
    return 2 * x


class FunctionSession:
    """A model whose output y is a function of its input x; remembers the shapes that it ran."""

    steady = False

    def __init__(self, signature: Signature, function: Function) -> None:
        self.signature = signature
        self.ran: list[tuple[int, ...]] = []
        self.closed = False
        self._function = function

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.ran.append(inputs["x"].shape)
        return [self._function(inputs["x"]) for _ in outputs]

    def close(self) -> None:
        self.closed = True


class Gate:
    """A function that doubles, once the test opens it; to be created on the event loop."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()

    def __call__(self, x: Array) -> Array:
        self._loop.call_soon_threadsafe(self.arrived.set)
        assert self._open.wait(timeout=30)
        return double(x)

    def open(self) -> None:
        self._open.set()


@dataclass
class Models:
    """The models of a server by name and version; closes them when the block ends."""

    cache: ResponseCache | None = None
    versions: dict[str, dict[str, Servable]] = field(default_factory=dict)

    async def __aenter__(self) -> "Models":
        return self

    async def __aexit__(self, *_: object) -> None:
        # Ensembles come after their models, and go before them.
        for versions in reversed(self.versions.values()):
            for servable in versions.values():
                await servable.close()

    def find(self, name: str, version: str) -> Servable:
        """As the engine finds it."""
        if name not in self.versions:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        versions = self.versions[name]
        if not versions:
            raise Unavailable(f"Request for unknown model: '{name}' has no available versions")
        if version and version not in versions:
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        return versions[version or max(versions)]

    def add(
        self,
        name: str,
        function: Function = double,
        *,
        batch: int = 8,
        dims: Sequence[int] = (4,),
        version: str = "1",
        batching: str = "",
        more: str = "",
        labels: Sequence[str] = (),
    ) -> FunctionSession:
        """Add a model that computes FP32 y from FP32 x; gives the session that it runs on."""
        merging = f"dynamic_batching {{ {batching} }}" if batch else ""
        text = CONFIG.format(batch=batch, dims=list(dims), batching=merging, more=more)
        source = Source(name, text)
        shape = (-1, *dims) if batch else tuple(dims)
        session = FunctionSession(
            Signature(
                (TensorSpec("x", Datatype.FP32, shape),), (TensorSpec("y", Datatype.FP32, shape),)
            ),
            function,
        )
        resolved = resolve(parse(text, name), name, source)
        config = complete(resolved, session.signature, source)
        self._put(Opened(config, version, [session], {"y": tuple(labels)} if labels else {}))
        return session

    def add_ensemble(self, name: str, text: str, version: str = "1") -> Servable:
        """Add a model of the others; LoadFailed as at a load."""
        source = Source(name, text)
        config = complete_ensemble(resolve(parse(text, name), name, source), source)
        return self._put(Opened(config, version, ()))

    async def ask(self, name: str, *inputs: Tensor, **fields: Any) -> InferenceResponse:
        """One request; `fields` are those of `InferenceRequest`."""
        request = InferenceRequest(name, inputs, **fields)
        return await self.find(name, request.version).infer(request)

    def _put(self, opened: Opened) -> Servable:
        servable = assemble(opened, MAX_QUEUE, self.find, self.cache)
        self.versions.setdefault(opened.config.name, {})[opened.version] = servable
        return servable


async def let_others_run() -> None:
    """Every task goes as far as it can by itself: none takes more turns of the loop than this."""
    for _ in range(30):
        await asyncio.sleep(0)


def tensor(array: Any, name: str = "in") -> Tensor:
    """An FP32 tensor."""
    return Tensor(name, Datatype.FP32, np.asarray(array, np.float32))
