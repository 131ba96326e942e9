"""Requests of models that their servers run one by one, gathered into batches on this side.

A batch is one call to a server, which takes as long as several requests of their own would not: as
many calls are under way as the servers have instances of the model, and what comes meanwhile waits
for the next one to be free.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import structs

from serving.config import ModelConfig, Source
from serving.config.model import specs
from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.merge import concat, merge_key, split
from serving.engine.batching.queue import BatchQueue
from serving.engine.validation import Validator
from serving.errors import Internal, NotFound, ServingError
from serving.triton.descriptions import Descriptions
from serving.triton.fleet import Fleet
from serving.types import (
    BatchPolicy,
    InferenceRequest,
    InferenceResponse,
    QueuePolicy,
    Tensor,
    Timing,
)
from serving.wire import proto_client

# Threads that wait for servers; more calls at a time do not make them faster.
_MOST_CALLS: Final = 32
# Models that are gathered for; beyond that, requests go to the servers as they come.
_MOST_MODELS: Final = 256
# What a server's queue would go by; these models have none.
_OF_THE_QUEUE: Final = frozenset({"timeout", "priority"})

OnBatch: TypeAlias = Callable[[str, str, BatchReport], None]
_Key: TypeAlias = tuple[str, str]


class Gathered(NamedTuple):
    """What has become of a request: its answer, and what it waited for."""

    response: InferenceResponse
    timing: Timing


class Queued(NamedTuple):
    """How many requests wait, and for how many nanoseconds one that came now would."""

    requests: int
    wait: int


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A request that fits the model, and when nobody waits for it any more."""

    request: InferenceRequest
    deadline: int | None


class Gathering:
    """Batchers for the models of `fleet` that gain by them; to be used on one event loop.

    `max_queue` requests may wait for a model; `on_batch` is told of every call, with the model and
    the version that answered.
    """

    def __init__(
        self, fleet: Fleet, descriptions: Descriptions, max_queue: int, on_batch: OnBatch
    ) -> None:
        self._fleet = fleet
        self._descriptions = descriptions
        self._max_queue = max_queue
        self._on_batch = on_batch
        self._models: dict[_Key, _Model] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def queues(self) -> Mapping[_Key, Queued]:
        """What waits for each model and version, as they were asked for."""
        return {key: model.queued for key, model in self._models.items()}

    async def infer(self, request: InferenceRequest) -> Gathered | None:
        """The answer from a batch with others; None for a model that its server batches itself.

        Raises ServingError, where the request does not fit the model as well: a server would
        refuse the whole batch for it.
        """
        try:
            config = await self._descriptions.config(request.model, request.version)
        except NotFound:
            # Its threads would wait for a model that may never come back.
            self._retire((request.model, request.version))
            raise
        model = self._model(request, config) if _gains(config) else None
        return None if model is None else await model.infer(request)

    async def close(self) -> None:
        """Refuse new requests, and answer those that wait."""
        for key in list(self._models):
            self._retire(key)
        await asyncio.gather(*self._closing)

    def _model(self, request: InferenceRequest, config: Any) -> "_Model | None":
        key = request.model, request.version
        model = self._models.get(key)
        if model is not None and model.is_of(config, self._fleet.size):
            return model
        if model is not None:
            self._retire(key)
        elif len(self._models) >= _MOST_MODELS:
            return None
        model = self._models[key] = _Model(config, self._fleet, self._max_queue, self._on_batch)
        return model

    def _retire(self, key: _Key) -> None:
        """Gather no more for a model, if it was gathered for."""
        model = self._models.pop(key, None)
        if model is None:
            return
        closing = asyncio.create_task(model.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Line:
    """Makes one call at a time, for a thread; `stop` ends it for any other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reply: Future[Any] | None = None
        # The loop may be through with a call before its thread knows how to end it.
        self._lock = Lock()

    def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        """What `call` comes to, on the loop."""
        with self._lock:
            self._reply = reply = asyncio.run_coroutine_threadsafe(call, self._loop)
        return reply.result()

    def stop(self) -> None:
        """Cancel the call that is under way, if there is one."""
        with self._lock:
            if self._reply is not None:
                self._reply.cancel()


class _Model:
    """One model as it is configured now."""

    def __init__(self, config: Any, fleet: Fleet, max_queue: int, on_batch: OnBatch) -> None:
        self._config = config
        self._servers = fleet.size
        self._fleet = fleet
        self._version = ""
        self._on_batch = on_batch
        inputs, outputs = specs(config.input), specs(config.output)
        self._validator = Validator(ModelConfig(config, Source(config.name), inputs, outputs))
        policy = BatchPolicy(config.max_batch_size, QueuePolicy(max_queue))
        instances = sum(group.count for group in config.instance_group) or 1
        loop = asyncio.get_running_loop()
        calls = min(instances * max(self._servers, 1), _MOST_CALLS)
        self._batcher: Batcher[_Item, InferenceResponse, _Line] = Batcher(
            BatchQueue(policy),
            self._execute,
            [_Line(loop) for _ in range(calls)],
            goal=policy.goal,
            on_batch=self._record,
            stop=_Line.stop,
            name=f"{config.name}-calls",
        )

    @property
    def queued(self) -> Queued:
        return Queued(self._batcher.waiting, self._batcher.wait)

    def is_of(self, config: Any, servers: int) -> bool:
        """Whether it still is as it is configured, on so many servers."""
        return servers == self._servers and (config is self._config or config == self._config)

    async def infer(self, request: InferenceRequest) -> Gathered:
        admitted = self._validator.admit(request)
        kept = {k: v for k, v in request.parameters.items() if k not in _OF_THE_QUEUE}
        alike: Hashable = request.outputs, tuple(sorted(kept.items()))
        response, timing = await self._batcher.submit(
            _Item(structs.replace(request, parameters=kept), request.deadline),
            rows=admitted.rows,
            key=merge_key(request.inputs, alike),
            deadline=request.deadline,
        )
        return Gathered(structs.replace(response, id=request.id), timing)

    async def close(self) -> None:
        await self._batcher.close()

    def _execute(self, batch: Batch[_Item, _Line]) -> Executed[InferenceResponse]:
        """One call with the requests of a batch, from a thread of its own."""
        began = time.monotonic_ns()
        message, deadline = _merged(batch)
        prepared = time.monotonic_ns()
        reply = batch.slot.ask(self._fleet.call("ModelInfer", message, deadline))
        computed = time.monotonic_ns()
        response = proto_client.decode_response(reply)
        self._version = response.version
        responses = _divided(response, batch.rows)
        ended = time.monotonic_ns()
        return Executed(responses, prepared - began, computed - prepared, ended - computed)

    def _record(self, report: BatchReport) -> None:
        self._on_batch(self._config.name, self._version, report)


def _gains(config: Any) -> bool:
    """Whether the model takes batches, and its server makes none."""
    return (
        config.max_batch_size > 1
        and config.WhichOneof("scheduling_choice") is None
        and not config.model_transaction_policy.decoupled
    )


def _merged(batch: Batch[_Item, _Line]) -> tuple[Any, int | None]:
    """The message with all rows, and until when anybody waits for its answer."""
    first = batch.items[0].request
    arrays = concat([item.request.inputs for item in batch.items])
    inputs = tuple(structs.replace(tensor, array=arrays[tensor.name]) for tensor in first.inputs)
    deadlines = [item.deadline for item in batch.items]
    known = [each for each in deadlines if each is not None]
    latest = max(known) if len(known) == len(deadlines) else None
    return proto_client.encode_request(structs.replace(first, inputs=inputs, id="")), latest


def _divided(response: InferenceResponse, rows: Any) -> list[InferenceResponse]:
    """Each request's rows of a response to all of them."""
    kinds = {tensor.name: tensor.datatype for tensor in response.outputs}
    try:
        shares = split({tensor.name: tensor.array for tensor in response.outputs}, rows)
    except ServingError as error:
        raise Internal(f"{response.model}: {error.message}") from error
    return [
        structs.replace(
            response,
            outputs=tuple(Tensor(name, kinds[name], array) for name, array in share.items()),
        )
        for share in shares
    ]
