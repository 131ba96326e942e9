"""A version of a decoupled model: it answers a request by none, one or many responses.

Each request has an instance for itself, from its first response to its last: there is nothing to
be gained by a batch whose requests end at different times.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from serving.engine.backends.base import StreamingSession
from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.queue import BatchQueue
from serving.engine.classification import answer
from serving.engine.execution import Execution
from serving.engine.model import ModelVersion
from serving.engine.response_counts import ResponseCounts
from serving.engine.responses import Abandoned, Responses
from serving.engine.scheduling import schedule
from serving.engine.servable import ManyResponses, Opened, Servable
from serving.engine.validation import Admitted, Validator
from serving.errors import LoadFailed
from serving.faults import Faults
from serving.statistics import VersionStatistics
from serving.types import Array, InferenceRequest, InferenceResponse, Tensor, Timing


@dataclass(frozen=True, slots=True)
class _Made:
    """A response as it leaves the thread; how long it took, in nanoseconds."""

    outputs: Mapping[str, Array]
    infer: int
    output: int


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """What an instance gets: a request, and where its responses go."""

    admitted: Admitted
    responses: Responses[_Made]


class _Execution:
    """Runs one request, which is a batch by itself."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __call__(self, batch: Batch[_Request, StreamingSession]) -> Executed[None]:
        """Hand over all responses, in a worker thread, or as many as somebody reads."""
        [request] = batch.items
        names = request.admitted.outputs
        begin = time.monotonic_ns()
        inputs = self._execution.feed([request.admitted.inputs])
        prepared = last = time.monotonic_ns()
        infer = output = 0
        with closing(batch.slot.stream(inputs, names)) as responses:
            for arrays in responses:
                computed = time.monotonic_ns()
                seen = self._execution.to_client(dict(zip(names, arrays, strict=True)))
                shaped = time.monotonic_ns()
                try:
                    request.responses.put(_Made(seen, computed - last, shaped - computed))
                except Abandoned:
                    break
                infer, output = infer + computed - last, output + shaped - computed
                last = time.monotonic_ns()
        infer += time.monotonic_ns() - last
        return Executed([None], prepared - begin, infer, output)


class DecoupledVersion(ManyResponses):
    """Answers requests for one version; to be created on the event loop."""

    def __init__(self, opened: Opened, default_max_queue: int) -> None:
        """LoadFailed if the configuration asks for what cannot be had together with streams."""
        config = opened.config
        # One instance answers in order of itself.
        if config.proto.dynamic_batching.preserve_ordering and len(opened.sessions) > 1:
            raise LoadFailed(
                f"{config.source.at('dynamic_batching.preserve_ordering')}: several instances of "
                f"model '{config.name}', which is decoupled, answer side by side: leave it out, or "
                "write an instance_group of count 1"
            )
        if config.has_sequences or config.is_ragged:
            raise LoadFailed(
                f"{config.source.at('model_transaction_policy')}: model '{config.name}' gives any "
                "number of responses to a request, which runs by itself: leave out "
                "sequence_batching, allow_ragged_batch, batch_input and batch_output"
            )
        self._opened = opened
        self._config = config
        self._statistics = VersionStatistics(
            config.name, opened.version, objective=config.latency_objective
        )
        self._faults = Faults(f"{config.name} version {opened.version}")
        self._validator = Validator(config)
        self._outputs = {spec.name: spec.datatype for spec in config.outputs}
        self._batcher: Batcher[_Request, None, Any] = Batcher(
            BatchQueue(replace(config.batch_policy(default_max_queue), merge=False)),
            _Execution(Execution(config)),
            opened.sessions,
            on_batch=self._record_execution,
            name=f"{config.name}-{opened.version}",
        )

    @property
    def opened(self) -> Opened:
        """What it was made of."""
        return self._opened

    @property
    def statistics(self) -> VersionStatistics:
        """The counters as they stand."""
        self._statistics.pending = self._batcher.waiting
        self._statistics.wait = self._batcher.wait
        return self._statistics

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses as they are made; every outcome is counted."""
        run = _Run(self._statistics)
        try:
            with run.counts.failures_of(request):
                admitted = self._validator.admit(request)
                run.begin(self._submit(request, admitted, run.responses))
                while made := await run.next():
                    yield self._response(request, admitted, made)
                run.counts.succeeded(admitted.rows, run.timing)
        finally:
            run.end()

    async def finish_sequences(self) -> None:
        """There are none."""

    async def close(self) -> None:
        """Refuse new requests, answer the accepted ones, release the sessions."""
        await self._batcher.close()
        await asyncio.to_thread(self._release)

    async def _submit(
        self, request: InferenceRequest, admitted: Admitted, responses: Responses[_Made]
    ) -> Timing:
        _, timing = await self._batcher.submit(
            _Request(admitted, responses),
            rows=admitted.rows,
            key=None,  # nothing is merged
            deadline=request.deadline,
            # Microseconds on the wire.
            queue_timeout=int(request.parameters.get("timeout", 0)) * 1000,
            priority=int(request.parameters.get("priority", 0)),
        )
        return timing

    def _response(
        self, request: InferenceRequest, admitted: Admitted, made: _Made
    ) -> InferenceResponse:
        tensors = tuple(
            Tensor(name, self._outputs[name], made.outputs[name]) for name in admitted.outputs
        )
        batches = self._config.max_batch_size > 0
        return InferenceResponse(
            model=self._config.name,
            version=self._opened.version,
            outputs=answer(tensors, request.outputs, self._opened.labels, batches),
            id=request.id,
        )

    def _record_execution(self, report: BatchReport) -> None:
        if report.error is None:
            self._statistics.record_execution(report.rows, report.timing)
        else:
            self._faults.tell(report.error)

    def _release(self) -> None:
        for session in self._opened.sessions:
            session.close()


class StreamedVersion(ManyResponses):
    """A decoupled model whose sessions give a request one response, which a stream delivers."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    @property
    def opened(self) -> Opened:
        """What it was made of."""
        return self._servable.opened

    @property
    def statistics(self) -> VersionStatistics:
        """The counters as they stand."""
        return self._servable.statistics

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The one response."""
        arrived = time.monotonic_ns()
        response = await self._servable.infer(request)
        self.statistics.record_first_response(time.monotonic_ns() - arrived)
        yield structs.replace(response, is_last=True)

    async def finish_sequences(self) -> None:
        """As the servable does."""
        await self._servable.finish_sequences()

    async def close(self) -> None:
        """As the servable does."""
        await self._servable.close()


def decoupled(opened: Opened, default_max_queue: int) -> Servable:
    """The servable for a decoupled model; to be called on the event loop."""
    if all(isinstance(session, StreamingSession) for session in opened.sessions):
        return DecoupledVersion(opened, default_max_queue)
    return StreamedVersion(ModelVersion(opened, schedule(opened, default_max_queue)))


class _Run:
    """One request on its way: the task that sees it through the queue, and what is counted."""

    def __init__(self, statistics: VersionStatistics) -> None:
        self.counts = ResponseCounts(statistics)
        self.responses: Responses[_Made] = Responses()
        self._task: asyncio.Task[Timing] | None = None

    def begin(self, submitted: Coroutine[Any, Any, Timing]) -> None:
        """Put the request into the queue; when it leaves there will be no more responses."""
        self._task = asyncio.create_task(submitted)
        self._task.add_done_callback(self._done)

    async def next(self) -> _Made | None:
        """The response that follows; None at the end, unless the request has failed."""
        made = await self.responses.next()
        if made is None:
            assert self._task is not None
            await self._task
        else:
            self.counts.responded(made.infer, made.output)
        return made

    @property
    def timing(self) -> Timing:
        """Where its time went, once there are no more responses."""
        assert self._task is not None
        return self._task.result()

    def end(self) -> None:
        """Whatever still runs stops before its next response."""
        self.responses.abandon()
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: "asyncio.Task[Timing]") -> None:
        if not task.cancelled():
            task.exception()  # Looked at, though whoever would be told may have gone.
        self.responses.end()
