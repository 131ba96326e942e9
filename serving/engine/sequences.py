"""How a batch of steps of different sequences runs: with control inputs, and with states.

The model is told by control inputs where in its sequence each row stands. What it gives as a state
is kept here, for each slot of each instance, and comes back with the next step of that sequence.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from serving.config import Control, ControlKind, ModelConfig
from serving.dtypes import Datatype
from serving.engine.backends.base import Session
from serving.engine.batching.batch import Batch, Executed
from serving.engine.batching.entries import SequenceId, Step
from serving.engine.batching.merge import split
from serving.engine.execution import Execution
from serving.engine.raw_data import read_array
from serving.engine.repository import ModelFolder
from serving.engine.servable import Opened
from serving.engine.validation import Admitted
from serving.errors import InvalidArgument
from serving.types import Array, InferenceRequest

STATE_FOLDER: Final = "initial_state"


def read_initial_states(config: ModelConfig, folder: ModelFolder) -> dict[str, Array]:
    """What each state holds as a sequence begins, by its input; LoadFailed if a file is amiss."""
    arrays = {}
    for state in config.states:
        initial, datatype = state.initial, state.datatype
        if initial.file:
            data = folder.read(STATE_FOLDER, initial.file)
            what = str(folder.path / STATE_FOLDER / initial.file)
            array = read_array(data, datatype, initial.dims, what)
        else:
            array = np.full(initial.dims, datatype.nothing, datatype.numpy)
        arrays[state.input_name] = array
    return arrays


class Steps:
    """Reads from requests where in their sequences they stand."""

    def __init__(self, config: ModelConfig) -> None:
        self._model = config.name
        ids = [control for control in config.controls if control.kind is ControlKind.CORRID]
        self._id = ids[0] if ids else None

    def __call__(self, request: InferenceRequest, admitted: Admitted) -> Step:
        """The step that a request is; InvalidArgument if it is none."""
        if admitted.rows > 1:
            raise InvalidArgument(
                f"inference request to model '{self._model}' must specify batch-size 1 due to "
                "requirements of sequence batcher"
            )
        given = request.parameters
        sequence = given.get("sequence_id", 0)
        if not isinstance(sequence, int | str) or not sequence:
            raise InvalidArgument(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty "
                "correlation ID"
            )
        start, end = given.get("sequence_start", False), given.get("sequence_end", False)
        if start:
            self._check(sequence)
        return Step(sequence, bool(start), bool(end))

    def _check(self, sequence: SequenceId) -> None:
        """The model must be able to take the id of a sequence that begins, if it wants it."""
        if self._id is None:
            return
        wants_text = self._id.datatype is Datatype.BYTES
        if wants_text is not isinstance(sequence, str):
            expected = "a string" if wants_text else "an integer"
            raise InvalidArgument(
                f"parameters.sequence_id: expected {expected}, which model '{self._model}' takes "
                f"as its control input '{self._id.name}', got {sequence!r}"
            )


@dataclass(slots=True, eq=False)
class SequenceInstance:
    """An instance, and by slot what the states of the sequence there are, by their inputs."""

    session: Session
    states: dict[int, dict[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rows:
    """In which rows of a batch of `height` rows the requests stand; the others are empty."""

    steps: Sequence[Step]
    rows: Sequence[int]
    height: int


class SequenceExecution:
    """Runs batches of one model version, each on the instance that the batch has for its own."""

    def __init__(self, opened: Opened) -> None:
        config = opened.config
        self._execution = Execution(config)
        self._controls = config.controls
        self._states = {state.output_name: state.input_name for state in config.states}
        self._batches = config.max_batch_size > 0
        self._slots_are_rows = self._batches and not config.proto.sequence_batching.HasField(
            "oldest"
        )
        self._initial = {
            name: array[None] if self._batches else array
            for name, array in opened.initial_states.items()
        }

    def __call__(self, batch: Batch[Admitted, SequenceInstance]) -> Executed[dict[str, Array]]:
        """The outputs that each request asked for, in a worker thread."""
        for step in batch.steps:
            if step.start:
                batch.slot.states[step.slot] = dict(self._initial)
        answers: dict[int, dict[str, Array]] = {}
        runs = [self._run(batch, members, answers) for members in self._alike(batch)]
        sums = [sum(column) for column in zip(*runs, strict=True)]
        return Executed([answers[index] for index in range(len(batch.items))], *sums)

    def _alike(self, batch: Batch[Admitted, SequenceInstance]) -> list[list[int]]:
        """The requests that can run at once: those whose states have equal shapes."""
        groups: dict[Hashable, list[int]] = {}
        for index, step in enumerate(batch.steps):
            states = batch.slot.states.get(step.slot, {})
            shapes = tuple(array.shape for array in states.values())
            groups.setdefault(shapes, []).append(index)
        return list(groups.values())

    def _run(
        self,
        batch: Batch[Admitted, SequenceInstance],
        members: Sequence[int],
        answers: dict[int, dict[str, Array]],
    ) -> tuple[int, int, int, int]:
        """Run these requests, put what they get into `answers`; three durations, and the rows."""
        begin = time.monotonic_ns()
        where = self._rows([batch.steps[index] for index in members])
        items = [batch.items[index] for index in members]
        inputs = self._inputs(items, batch.slot.states, where)
        wanted = items[0].outputs
        names = list(dict.fromkeys((*wanted, *self._states)))
        prepared = time.monotonic_ns()
        results = batch.slot.session.run(inputs, names)
        computed = time.monotonic_ns()
        outputs = dict(zip(names, results, strict=True))
        shares = split(outputs, [1] * where.height) if self._batches else [outputs]
        for index, row in zip(members, where.rows, strict=True):
            self._keep_states(batch.slot, batch.steps[index], shares[row])
            answer = {name: shares[row][name] for name in wanted}
            answers[index] = self._execution.to_client(answer)
        done = time.monotonic_ns()
        return prepared - begin, computed - prepared, done - computed, where.height

    def _rows(self, steps: Sequence[Step]) -> _Rows:
        if self._slots_are_rows:
            slots = [step.slot for step in steps]
            return _Rows(steps, slots, max(slots) + 1)
        return _Rows(steps, range(len(steps)), len(steps))

    def _inputs(
        self, items: Sequence[Admitted], states: Mapping[int, Mapping[str, Array]], where: _Rows
    ) -> dict[str, Array]:
        """All that the graph takes; rows without a request are zeros and not ready."""
        given = [{tensor.name: tensor.array for tensor in item.inputs} for item in items]
        inputs = self._execution.to_graph(self._stack_all(given, where))
        inputs |= self._stack_all([states[step.slot] for step in where.steps], where)
        for control in self._controls:
            inputs[control.name] = _signal(control, where, self._batches)
        return inputs

    def _stack_all(self, given: Sequence[Mapping[str, Array]], where: _Rows) -> dict[str, Array]:
        if not self._batches:
            return dict(given[0])
        return {name: _stack([each[name] for each in given], where) for name in given[0]}

    def _keep_states(
        self, instance: SequenceInstance, step: Step, share: Mapping[str, Array]
    ) -> None:
        if step.end:
            instance.states.pop(step.slot, None)
        else:
            # A copy, lest a row keep the arrays of its whole batch alive.
            instance.states[step.slot] = {
                name: share[output].copy() for output, name in self._states.items()
            }


def _stack(rows: Sequence[Array], where: _Rows) -> Array:
    """One batch of arrays of one row each."""
    if len(rows) == 1 and where.height == 1:
        return rows[0]
    if len(rows) == where.height:
        return np.concatenate(rows)
    datatype = rows[0].dtype
    empty: Any = b"" if datatype.kind == "O" else 0
    batch = np.full((where.height, *rows[0].shape[1:]), empty, datatype)
    for row, array in zip(where.rows, rows, strict=True):
        batch[row] = array[0]
    return batch


def _signal(control: Control, where: _Rows, batches: bool) -> Array:
    """What a control input says of each row."""
    values: list[Any] = [control.false] * where.height
    if control.kind is ControlKind.CORRID:
        values = [control.datatype.nothing] * where.height
    for row, step in zip(where.rows, where.steps, strict=True):
        values[row] = _said(control, step)
    array = _array(values, control.datatype)
    return array[:, None] if batches else array


def _said(control: Control, step: Step) -> Any:
    """What a control input says of a request."""
    match control.kind:
        case ControlKind.CORRID:
            return step.sequence.encode() if isinstance(step.sequence, str) else step.sequence
        case ControlKind.START:
            return control.true if step.start else control.false
        case ControlKind.END:
            return control.true if step.end else control.false
        case ControlKind.READY:
            return control.true


def _array(values: Sequence[Any], datatype: Datatype) -> Array:
    if datatype in (Datatype.INT64, Datatype.UINT32, Datatype.INT32):
        # An id is 64 bits wide; of a narrower one the model gets the lower bits.
        return np.array(values, np.int64 if min(values) < 0 else np.uint64).astype(datatype.numpy)
    return np.array(values, datatype.numpy)
