"""A version of a model that generates text, token by token, for many requests in one batch."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np

from serving.engine.backends.generation import PROMPT, STOP, TEXT, GenerationSession
from serving.engine.batching.queue import BatchQueue
from serving.engine.classification import answer
from serving.engine.generation.decoder import Decoder, Step
from serving.engine.generation.generation import Generation, Piece
from serving.engine.generation.generator import Generator
from serving.engine.generation.sampling import read_sampling
from serving.engine.response_counts import ResponseCounts
from serving.engine.servable import ManyResponses, Opened
from serving.engine.validation import Admitted, Validator
from serving.errors import InvalidArgument, LoadFailed
from serving.faults import Faults
from serving.statistics import VersionStatistics
from serving.types import InferenceRequest, InferenceResponse, Parameter, Tensor, Timing


class GeneratingVersion(ManyResponses):
    """Answers requests for one version; to be created on the event loop."""

    def __init__(self, opened: Opened, default_max_queue: int) -> None:
        """LoadFailed if the configuration asks for what a generation cannot have."""
        config = opened.config
        _check(opened)
        [session] = opened.sessions
        assert isinstance(session, GenerationSession)
        self._opened = opened
        self._config = config
        self._session = session
        self._statistics = VersionStatistics(
            config.name, opened.version, objective=config.latency_objective
        )
        self._validator = Validator(config)
        self._generator = Generator(
            Decoder(session, config.max_batch_size),
            config.max_batch_size,
            BatchQueue(replace(config.batch_policy(default_max_queue), merge=False)),
            session.characters.decode,
            on_step=self._record_step,
            on_fault=Faults(f"{config.name} version {opened.version}").tell,
            name=f"{config.name}-{opened.version}",
        )

    @property
    def opened(self) -> Opened:
        """What it was made of."""
        return self._opened

    @property
    def statistics(self) -> VersionStatistics:
        """The counters as they stand."""
        self._statistics.pending = self._generator.waiting
        self._statistics.wait = self._generator.wait
        return self._statistics

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The text as it comes, or in one response for those who want it whole."""
        counts = ResponseCounts(self._statistics)
        generation: Generation | None = None
        try:
            with counts.failures_of(request):
                admitted = self._validator.admit(request)
                generation = self._generation(request, admitted)
                self._begin(request, generation)
                is_last = False
                while not is_last:
                    next_piece = generation.next if generation.sampling.stream else generation.whole
                    piece = await next_piece()
                    counts.responded()
                    is_last = piece.finish is not None
                    timing = _timing(generation) if is_last else None
                    yield self._response(request, admitted, piece, timing)
                counts.succeeded(1, _timing(generation))
        finally:
            if generation is not None:
                self._generator.abandon(generation)

    async def finish_sequences(self) -> None:
        """There are none."""

    async def close(self) -> None:
        """Refuse new requests, write the accepted ones to their ends, release the session."""
        await self._generator.close()
        await asyncio.to_thread(self._session.close)

    def _generation(self, request: InferenceRequest, admitted: Admitted) -> Generation:
        """What the request asks for; InvalidArgument where that cannot be."""
        arrays = {tensor.name: tensor.array for tensor in admitted.inputs}
        if admitted.rows != 1:
            raise InvalidArgument(
                f"{PROMPT.name}: a request is for one text, got {admitted.rows}; texts of several "
                "requests are written together"
            )
        stops = arrays.get(STOP.name)
        sampling = read_sampling(
            request.parameters,
            None if stops is None else [stop.decode() for stop in stops.reshape(-1)],
            not request.wants_one_response,
            self._config.generation_max_tokens,
        )
        prompt = self._session.characters.encode(arrays[PROMPT.name].item().decode())
        if not 1 <= len(prompt) <= self._session.context:
            raise InvalidArgument(
                f"{PROMPT.name}: expected 1 to {self._session.context} characters, which is as "
                f"far as the model looks back, got {len(prompt)}"
            )
        return Generation(prompt, sampling)

    def _begin(self, request: InferenceRequest, generation: Generation) -> None:
        self._generator.begin(
            generation,
            deadline=request.deadline,
            # Microseconds on the wire.
            queue_timeout=int(request.parameters.get("timeout", 0)) * 1000,
            priority=int(request.parameters.get("priority", 0)),
        )

    def _response(
        self, request: InferenceRequest, admitted: Admitted, piece: Piece, timing: Timing | None
    ) -> InferenceResponse:
        text = Tensor(TEXT.name, TEXT.datatype, np.array([[piece.text.encode()]], dtype=object))
        parameters: dict[str, Parameter] = {}
        if piece.finish is not None:
            parameters = {"finish_reason": piece.finish.value, "completion_tokens": piece.tokens}
        return InferenceResponse(
            model=self._config.name,
            version=self._opened.version,
            outputs=answer((text,), request.outputs, self._opened.labels, batched=True),
            id=request.id,
            parameters=parameters,
            timing=timing,
            is_last=piece.finish is not None,
        )

    def _record_step(self, rows: int, step: Step) -> None:
        timing = Timing(0, step.reading, step.writing, 0, batch_rows=rows)
        self._statistics.record_execution(rows, timing)


def _timing(generation: Generation) -> Timing:
    return Timing(generation.queue, generation.reading, generation.writing, 0, batch_rows=1)


def _check(opened: Opened) -> None:
    config = opened.config
    batching = config.proto.dynamic_batching
    unfit = {
        "model_transaction_policy": not config.is_decoupled,
        "max_batch_size": config.max_batch_size < 1,
        "instance_group": len(opened.sessions) != 1,
        "sequence_batching": config.has_sequences,
        "response_cache": config.caches_responses,
        "dynamic_batching.max_queue_delay_microseconds": batching.max_queue_delay_microseconds > 0,
        "dynamic_batching.preserve_ordering": batching.preserve_ordering,
    }
    if found := [field for field, is_unfit in unfit.items() if is_unfit]:
        raise LoadFailed(
            f"{config.source.at(found[0])}: model '{config.name}' generates text, so it is "
            "decoupled, has max_batch_size texts of one instance in hand at a time, and neither "
            "sequences, a response cache, a queue delay nor an order of the answers; "
            f"change {', '.join(found)}"
        )
