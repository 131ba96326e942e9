"""An ensemble: a version that answers by asking other models, its steps.

A step runs as soon as the tensors that it reads exist, beside whatever else runs, and only if
what it leads to was asked for. It is a request like any other to its model: it waits in that
model's queue, shares its batches, and is counted there.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import TypeAlias

from msgspec import structs

from serving.config import ModelConfig, Step, refuse, step_faults
from serving.config.source import Fault
from serving.engine.classification import answer
from serving.engine.dependents import Circle
from serving.engine.ensemble_flow import Flow, Value
from serving.engine.servable import Find, OneResponse, Opened
from serving.engine.validation import Admitted, Validator
from serving.errors import Code, NotFound, ServingError, Unavailable
from serving.statistics import FailureReason, VersionStatistics
from serving.together import Together
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    Parameters,
    RequestedOutput,
    Tensor,
    Timing,
)

# As `Find`, for what a version is made of.
FindOpened: TypeAlias = Callable[[str, str], Opened]


@dataclass(slots=True)
class _Run:
    """One request on its way through the steps, which `order` hands out."""

    request: InferenceRequest
    order: TopologicalSorter[int]
    group: Together
    values: dict[str, Value]
    timings: list[Timing] = field(default_factory=list)


class Ensemble(OneResponse):
    """Answers requests for one version; to be created on the event loop, after its models."""

    def __init__(self, opened: Opened, find: Find) -> None:
        """LoadFailed unless every step's model is loaded and all fit together."""
        config = opened.config
        models = check_steps(config, lambda model, version: find(model, version).opened)
        self._opened = replace(opened, labels=_labels(opened, models))
        self._config = config
        self._find = find
        self._steps = config.steps
        self._flow = Flow(self._steps)
        self._statistics = VersionStatistics(
            config.name, opened.version, caches=config.caches_responses
        )
        self._validator = Validator(config)
        self._outputs = {spec.name: spec for spec in config.outputs}
        self._batches = config.max_batch_size > 0
        self._running = 0
        self._closing = False
        self._drained = asyncio.Event()

    @property
    def opened(self) -> Opened:
        """What it was made of; outputs without labels have those of the models that write them."""
        return self._opened

    @property
    def statistics(self) -> VersionStatistics:
        """The counters as they stand; compute is what all steps of a request took together."""
        return self._statistics

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Run the steps that the requested outputs need; every outcome is counted."""
        arrived = time.monotonic_ns()
        self._running += 1
        try:
            admitted = self._admit(request)
            started = time.monotonic_ns()
            response, spent = await self._answer(request, admitted)
        except ServingError as error:
            reason = FailureReason.CANCELED if error.code is Code.CANCELLED else FailureReason.OTHER
            self._statistics.record_failure(reason, time.monotonic_ns() - arrived)
            raise
        except asyncio.CancelledError:
            elapsed = time.monotonic_ns() - arrived
            self._statistics.record_failure(FailureReason.CANCELED, elapsed)
            raise
        finally:
            self._running -= 1
            if self._closing and not self._running:
                self._drained.set()
        # As Triton counts it: what its steps have waited is in the queues of their models.
        own = structs.replace(spent, queue=started - arrived, company=0)
        self._statistics.record_execution(admitted.rows, own)
        self._statistics.record_success(admitted.rows, time.monotonic_ns() - arrived, own)
        return response

    async def finish_sequences(self) -> None:
        """The steps' models see to theirs."""

    async def close(self) -> None:
        """Refuse new requests, answer the accepted ones; the models are not closed."""
        self._closing = True
        if not self._running:
            self._drained.set()
        await self._drained.wait()

    def _admit(self, request: InferenceRequest) -> Admitted:
        if self._closing:
            raise Unavailable("the model is being unloaded and accepts no more requests")
        return self._validator.admit(request)

    async def _answer(
        self, request: InferenceRequest, admitted: Admitted
    ) -> tuple[InferenceResponse, Timing]:
        """The answer, and where its time went: what the steps took, and waited, adds up."""
        run = await self._run(request, admitted)
        spent = Timing(
            queue=sum(timing.queue for timing in run.timings),
            compute_input=sum(timing.compute_input for timing in run.timings),
            compute_infer=sum(timing.compute_infer for timing in run.timings),
            compute_output=sum(timing.compute_output for timing in run.timings),
            batch_rows=admitted.rows,
            company=sum(timing.company for timing in run.timings),
        )
        response = InferenceResponse(
            model=self._config.name,
            version=self._opened.version,
            outputs=answer(
                tuple(self._output(name, run.values[name]) for name in admitted.outputs),
                request.outputs,
                self._opened.labels,
                self._batches,
            ),
            id=request.id,
            parameters=_sequence(request.parameters) if run.timings else {},
            timing=spent,
        )
        return response, spent

    async def _run(self, request: InferenceRequest, admitted: Admitted) -> _Run:
        order = TopologicalSorter(self._flow.needed(admitted.outputs))
        order.prepare()
        rows = admitted.rows if self._batches else 0
        values = {
            tensor.name: Value(tensor.datatype, self._inside(tensor), rows)
            for tensor in admitted.inputs
        }
        async with Together() as group:
            run = _Run(request, order, group, values)
            await self._advance(run)
        return run

    async def _advance(self, run: _Run) -> None:
        """Run what is ready, and what that makes ready: one step here, the others beside it."""
        while ready := run.order.get_ready():
            index, *others = ready
            for other in others:
                run.group.start(self._advance_from(run, other))
            await self._step(run, index)

    async def _advance_from(self, run: _Run, index: int) -> None:
        await self._step(run, index)
        await self._advance(run)

    async def _step(self, run: _Run, index: int) -> None:
        step = self._steps[index]
        try:
            model = self._find(step.model, step.version)
            response = await model.infer(_step_request(step, model.opened.config, run))
        except ServingError as error:
            where = f"in ensemble '{self._config.name}', step {index} of model '{step.model}': "
            raise error.labelled(where) from error
        batches = model.opened.config.max_batch_size > 0
        for tensor in response.outputs:
            rows = len(tensor.array) if batches else 0
            run.values[step.outputs[tensor.name]] = Value(tensor.datatype, tensor.array, rows)
        if response.timing is not None:
            run.timings.append(response.timing)
        run.order.done(index)

    def _inside(self, tensor: Tensor) -> Array:
        """The array of an input in the shape that the steps see."""
        reshape = self._config.input_reshapes.get(tensor.name)
        if reshape is None:
            return tensor.array
        skip, shape = int(self._batches), tensor.array.shape
        return tensor.array.reshape((*shape[:skip], *reshape.to_graph(shape[skip:])))

    def _output(self, name: str, value: Value) -> Tensor:
        """An output in the shape that clients see."""
        reshape = self._config.output_reshapes.get(name)
        array = value.fit(reshape.graph if reshape else self._outputs[name].dims, self._batches)
        if reshape is not None:
            skip = int(self._batches)
            array = array.reshape((*array.shape[:skip], *reshape.to_client(array.shape[skip:])))
        return Tensor(name, value.datatype, array)


def check_steps(config: ModelConfig, find: FindOpened) -> list[Opened]:
    """The model of each step of an ensemble; LoadFailed unless all are there and fit together."""
    models = _find_models(config, find)
    refuse(step_faults(config.proto, [model.config.proto for model in models]), config.source)
    return models


def _find_models(config: ModelConfig, find: FindOpened) -> list[Opened]:
    """The model of each step; LoadFailed names each that is not there."""
    models, faults = [], []
    for index, step in enumerate(config.steps):
        try:
            models.append(_find_model(config.name, step, find))
            _refuse_circle(config.name, models[-1], find)
        except ServingError as error:
            path = f"ensemble_scheduling.step[{index}].model_name"
            faults.append(Fault(path, error.message))
    refuse(faults, config.source)
    return models


def _find_model(ensemble: str, step: Step, find: FindOpened) -> Opened:
    try:
        latest = find(step.model, "")
    except NotFound:
        raise NotFound(
            f"ensemble {ensemble} contains models that are not available or ambiguous: {step.model}"
        ) from None
    except ServingError as error:
        raise Unavailable(
            f"ensemble '{ensemble}' depends on '{step.model}' which has no loaded version: "
            f"{error.message}"
        ) from None
    if not step.version:
        return latest
    try:
        return find(step.model, step.version)
    except ServingError:
        raise NotFound(
            f"ensemble '{ensemble}' depends on '{step.model}' whose required version "
            f"{step.version} is not loaded"
        ) from None


def _refuse_circle(ensemble: str, part: Opened, find: FindOpened) -> None:
    """LoadFailed if the part, as it serves now, is made of the ensemble, as that was before."""
    names: set[str] = set()
    parts = [part]
    while parts:
        one = parts.pop()
        if one.config.name in names:
            continue
        names.add(one.config.name)
        parts += [find(step.model, step.version) for step in one.config.steps]
    if ensemble in names:
        raise Circle((ensemble, part.config.name))


def _labels(opened: Opened, models: list[Opened]) -> Mapping[str, tuple[str, ...]]:
    """The ensemble's own labels, and for its other outputs those of the steps' models."""
    labels = {
        tensor: model.labels[output]
        for step, model in zip(opened.config.steps, models, strict=True)
        for output, tensor in step.outputs.items()
        if output in model.labels
    }
    own = {spec.name for spec in opened.config.outputs}
    return {name: labels[name] for name in labels if name in own} | dict(opened.labels)


def _step_request(step: Step, config: ModelConfig, run: _Run) -> InferenceRequest:
    """The request to a step's model; optional inputs that the client has left out are left out."""
    batches = config.max_batch_size > 0
    dims = {spec.name: spec.dims for spec in config.inputs}
    values = {name: run.values.get(tensor) for name, tensor in step.inputs.items()}
    # In the model's own order, so that they share batches with requests for all outputs.
    order = {spec.name: place for place, spec in enumerate(config.outputs)}
    outputs = sorted(step.outputs, key=lambda name: order.get(name, -1))
    return InferenceRequest(
        model=step.model,
        version=step.version,
        id=run.request.id,
        inputs=tuple(
            Tensor(name, value.datatype, value.fit(dims.get(name, ()), batches))
            for name, value in values.items()
            if value is not None
        ),
        outputs=tuple(map(RequestedOutput, outputs)),
        parameters=run.request.parameters,
        deadline=run.request.deadline,
    )


def _sequence(parameters: Parameters) -> Parameters:
    """What Triton says of the sequence with whatever the steps of an ensemble have answered."""
    return {
        "sequence_id": parameters.get("sequence_id", 0),
        "sequence_start": bool(parameters.get("sequence_start", False)),
        "sequence_end": bool(parameters.get("sequence_end", False)),
    }
