"""What Triton refuses in `sequence_batching` before it has seen the graph; with the cure."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from serving.config.paths import leaves_folder
from serving.config.sequences import (
    ControlKind,
    datatype_of,
    kind_of,
    set_values,
)
from serving.config.source import Fault
from serving.config.text import Proto
from serving.dtypes import Datatype

_PATH: Final = "sequence_batching"
_CORRELATION_IDS: Final = (
    Datatype.UINT64,
    Datatype.INT64,
    Datatype.UINT32,
    Datatype.INT32,
    Datatype.BYTES,
)


def sequence_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with the strategy, the control inputs and the states in themselves."""
    if proto.HasField(_PATH):
        yield from _strategy(proto)
        yield from _controls(proto)
        yield from _states(proto)


def _strategy(proto: Proto) -> Iterator[Fault]:
    batching, limit = proto.sequence_batching, proto.max_batch_size
    for index, size in enumerate(batching.oldest.preferred_batch_size):
        path = f"{_PATH}.oldest.preferred_batch_size[{index}]"
        if size <= 0:
            yield Fault(
                path, f"sequence batching preferred batch size must be positive, got {size}"
            )
        elif size > limit:
            yield Fault(
                path,
                "sequence batching preferred batch size must be <= max batch size, got "
                f"{size} with max_batch_size: {limit}: raise the one or lower the other",
            )
    if batching.oldest.max_candidate_sequences < 0:
        yield Fault(
            f"{_PATH}.oldest.max_candidate_sequences",
            f"must not be negative, got {batching.oldest.max_candidate_sequences}",
        )
    share = batching.direct.minimum_slot_utilization
    if not 0 <= share <= 1:
        yield Fault(
            f"{_PATH}.direct.minimum_slot_utilization",
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0], got {share}",
        )


def _controls(proto: Proto) -> Iterator[Fault]:
    names: Counter[str] = Counter()
    kinds: Counter[ControlKind] = Counter()
    for index, given in enumerate(proto.sequence_batching.control_input):
        path = f"{_PATH}.control_input[{index}]"
        names[given.name] += 1
        if not given.name:
            yield Fault(path, f"sequence batching control tensor must have a name for {proto.name}")
        elif names[given.name] > 1 or len(given.control) > 1:
            yield Fault(
                path,
                f"sequence batching control tensor '{given.name}' is specified for multiple "
                f"control kinds for {proto.name}: give each kind an input of its own",
            )
        if not given.control:
            yield Fault(path, f"control tensor '{given.name}' must have a control with a kind")
        for place, control in enumerate(given.control):
            if kind := kind_of(control):
                kinds[kind] += 1
                yield from _kind(control, kind, kinds[kind], f"{path}.control[{place}]", proto.name)


def _kind(control: Proto, kind: ControlKind, count: int, path: str, model: str) -> Iterator[Fault]:
    if count > 1:
        yield Fault(path, f"sequence batching specifies multiple {kind.value} tensors for {model}")
    check = _correlation_id if kind is ControlKind.CORRID else _boolean
    yield from check(control, path, f"{kind.value} for {model}")


def _boolean(control: Proto, path: str, where: str) -> Iterator[Fault]:
    given = list(set_values(control))
    if not given:
        yield Fault(
            path,
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {where}",
        )
    if len(given) > 1:
        yield Fault(
            path,
            "sequence batching specifies more than one from 'int32_false_true', "
            f"'fp32_false_true' and 'bool_false_true' for {where}",
        )
    for name in given:
        if len(getattr(control, name)) != 2:
            yield Fault(
                f"{path}.{name}",
                f"sequence batching control '{name}' must have exactly 2 entries for {where}",
            )


def _correlation_id(control: Proto, path: str, where: str) -> Iterator[Fault]:
    if any(set_values(control)):
        yield Fault(
            path,
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {where}",
        )
    if datatype_of(control.data_type) not in _CORRELATION_IDS:
        yield Fault(
            f"{path}.data_type",
            f"unexpected data type for control {where}. Allowed data types are TYPE_UINT64, "
            "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
        )


def _states(proto: Proto) -> Iterator[Fault]:
    inputs: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    for index, state in enumerate(proto.sequence_batching.state):
        path, what = f"{_PATH}.state[{index}]", f"state input '{state.input_name}'"
        inputs[state.input_name] += 1
        outputs[state.output_name] += 1
        if not state.input_name or not state.output_name:
            yield Fault(path, "a state must have an input_name and an output_name")
        if inputs[state.input_name] > 1:
            yield Fault(path, f"State input name '{state.input_name}' specified more than once")
        if outputs[state.output_name] > 1:
            yield Fault(path, f"State output name '{state.output_name}' specified more than once")
        if not state.data_type:
            yield Fault(path, f"{what} must specify 'data_type'")
        if any(dim < 1 and dim != -1 for dim in state.dims):
            yield Fault(f"{path}.dims", f"{what} dimension must be integer >= 1, or -1")
        if state.use_growable_memory:
            yield Fault(
                f"{path}.use_growable_memory",
                "'use_growable_memory' can only work with KIND_GPU model instances right now: set "
                f"it to false for {what}",
            )
        if len(state.initial_state) > 1:
            yield Fault(
                f"{path}.initial_state[1]",
                f"initial_state field for {what} must contain exactly one or zero element. Found "
                f"'{len(state.initial_state)}' elements.",
            )
        for message in _initial_state(state, what):
            yield Fault(f"{path}.initial_state[0]", message)


def _initial_state(state: Proto, what: str) -> Iterator[str]:
    for initial in state.initial_state[:1]:
        if initial.data_type != state.data_type:
            yield (
                f"The data type used for 'initial_state' field of state '{state.input_name}' does "
                "not match the state data type."
            )
        if not initial.name:
            yield f"Field 'name' must be set when using initial_state for {what}."
        if len(initial.dims) != len(state.dims):
            yield (
                "Number of dimensions in 'initial_state' doesn't match the size of 'state' "
                f"dimensions for {what}. {len(initial.dims)} != {len(state.dims)}"
            )
        for given, wanted in zip(initial.dims, state.dims, strict=False):
            if given == -1:
                yield f"'initial_state' field for {what} contains variable dimensions."
            elif wanted not in (-1, given):
                yield (
                    f"'initial_state' dim for input name '{state.input_name}' doesn't match "
                    f"'state' dim description. {given} != {wanted}"
                )
        if initial.WhichOneof("state_data") is None:
            yield f"initial_state setting expects {what} to have state_data set"
        if leaves_folder(initial.data_file):
            yield f"'{initial.data_file}' leaves the model's folder initial_state"
