"""One version of a model, ready to answer: its sessions, its batcher, its statistics."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from serving.engine.batching.batch import BatchReport
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.entries import UNNAMED
from serving.engine.batching.loop_time import LoopTime
from serving.engine.classification import answer
from serving.engine.scheduling import Scheduling
from serving.engine.servable import OneResponse, Opened
from serving.engine.splitting import Answer, Splitter, join
from serving.engine.validation import Admitted, Validator
from serving.errors import Code, ServingError
from serving.faults import Faults
from serving.statistics import FailureReason, Success, VersionStatistics
from serving.together import together
from serving.types import Array, InferenceRequest, InferenceResponse, Tensor

_UNCOUNTED: Final = 256


class ModelVersion(OneResponse):
    """Answers requests for one version; to be created on the event loop."""

    def __init__(
        self, opened: Opened, scheduling: Scheduling, loop_time: LoopTime | None = None
    ) -> None:
        config = opened.config
        self._opened = opened
        self._name = config.name
        self._statistics = VersionStatistics(
            config.name,
            opened.version,
            caches=config.caches_responses,
            objective=config.latency_objective,
        )
        self._faults = Faults(f"{config.name} version {opened.version}")
        self._successes: list[Success] = []
        self._validator = Validator(config)
        self._outputs = {spec.name: spec.datatype for spec in config.outputs}
        self._batches = config.max_batch_size > 0
        self._step = scheduling.step
        self._splitter = None
        if config.splits_large_requests:
            self._splitter = Splitter(config.name, config.max_batch_size, scheduling.max_queue)
        self._batcher: Batcher[Admitted, dict[str, Array], Any] = Batcher(
            scheduling.queue,
            scheduling.execute,
            scheduling.slots,
            goal=scheduling.goal,
            preserve_ordering=scheduling.preserve_ordering,
            on_batch=self._record_batch,
            forecast=scheduling.forecast,
            objective=config.latency_objective,
            stop=scheduling.stop,
            loop_time=loop_time if all(each.steady for each in opened.sessions) else None,
            is_full=scheduling.is_full,
            name=f"{config.name}-{opened.version}",
        )

    @property
    def opened(self) -> Opened:
        """What it was made of."""
        return self._opened

    @property
    def statistics(self) -> VersionStatistics:
        """The counters as they stand."""
        self._count()
        self._statistics.pending = self._batcher.waiting
        self._statistics.wait = self._batcher.wait
        if self._opened.acceleration is not None:
            self._statistics.acceleration = self._opened.acceleration.state
        return self._statistics

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Validate, wait for a batch, run; every outcome is counted."""
        arrived = time.monotonic_ns()
        try:
            admitted = self._validator.admit(request)
            if self._splitter is None:
                arrays, timing = await self._submit(request, admitted)
            else:
                parts = self._splitter.parts(admitted, request.label)
                arrays, timing = await self._submit_all(request, parts)
            outputs = tuple(
                [Tensor(name, self._outputs[name], arrays[name]) for name in admitted.outputs]
            )
            if request.outputs:
                outputs = answer(outputs, request.outputs, self._opened.labels, self._batches)
        except ServingError as error:
            reason = FailureReason.of(error.code)
            self._statistics.record_failure(reason, time.monotonic_ns() - arrived)
            if error.code is UNNAMED:
                raise error.labelled(request.label) from error.__cause__
            raise
        except asyncio.CancelledError:
            elapsed = time.monotonic_ns() - arrived
            self._statistics.record_failure(FailureReason.CANCELED, elapsed)
            raise
        self._successes.append(Success(admitted.rows, arrived, time.monotonic_ns(), timing))
        if len(self._successes) >= _UNCOUNTED or self._statistics.summaries is not None:
            self._count()
        return InferenceResponse(
            model=self._name,
            version=self._opened.version,
            outputs=outputs,
            id=request.id,
            timing=timing,
        )

    async def finish_sequences(self) -> None:
        """Have no sequence begin any more; returns once those that have begun are over."""
        await self._batcher.finish_sequences()

    async def close(self) -> None:
        """Refuse new requests, answer the accepted ones, release the sessions."""
        await self._batcher.close()
        # A large session takes its time; others answer meanwhile.
        await asyncio.to_thread(self._release)

    def _submit(self, request: InferenceRequest, admitted: Admitted) -> Coroutine[Any, Any, Answer]:
        parameters = request.parameters
        return self._batcher.submit(
            admitted,
            rows=admitted.rows,
            key=admitted.key,
            deadline=request.deadline,
            # Microseconds on the wire.
            queue_timeout=int(parameters.get("timeout", 0)) * 1000 if parameters else 0,
            priority=int(parameters.get("priority", 0)) if parameters else 0,
            step=self._step(request, admitted),
        )

    async def _submit_all(self, request: InferenceRequest, parts: Sequence[Admitted]) -> Answer:
        if len(parts) == 1:
            return await self._submit(request, parts[0])
        return join(await together(self._submit(request, part) for part in parts))

    def _release(self) -> None:
        for session in self._opened.sessions:
            session.close()

    def _count(self) -> None:
        """Count the answers since the last time: many at once cost half of what each alone does."""
        if self._successes:
            self._statistics.record_successes(self._successes)
            self._successes.clear()

    def _record_batch(self, report: BatchReport) -> None:
        if report.error is not None and report.error.code is not Code.INVALID_ARGUMENT:
            self._faults.tell(report.error)
            return
        if report.has_run:
            self._statistics.record_execution(report.rows, report.timing)
        if report.abandoned:
            self._statistics.record_waste(report.abandoned, report.wasted)
