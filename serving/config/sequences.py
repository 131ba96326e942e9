"""What `sequence_batching` says: its control inputs and its states.

A control input tells the model where in its sequence a request stands; a state is an output that
comes back as an input with the next request of its sequence. Clients see neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from tritonclient.grpc import model_config_pb2

from serving import dtypes
from serving.config.text import Proto
from serving.dtypes import Datatype

_Control: Final[Any] = model_config_pb2.ModelSequenceBatching.Control

# The fields that say which values stand for false and true, and the datatype of each.
VALUES: Final = {
    "int32_false_true": Datatype.INT32,
    "fp32_false_true": Datatype.FP32,
    "bool_false_true": Datatype.BOOL,
}

Scalar: TypeAlias = bool | int | float


class ControlKind(Enum):
    """What a control input tells."""

    START = "CONTROL_SEQUENCE_START"
    READY = "CONTROL_SEQUENCE_READY"
    END = "CONTROL_SEQUENCE_END"
    CORRID = "CONTROL_SEQUENCE_CORRID"


@dataclass(frozen=True, slots=True)
class Control:
    """A control input, of one element per row; `false` and `true` mean nothing to a CORRID."""

    name: str
    kind: ControlKind
    datatype: Datatype
    false: Scalar = False
    true: Scalar = True


@dataclass(frozen=True, slots=True)
class InitialState:
    """What a state holds as its sequence begins: zeros, or what is in `file`."""

    dims: tuple[int, ...]
    file: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A state; `dims` are without the batch dimension, -1 being variable."""

    input_name: str
    output_name: str
    datatype: Datatype
    dims: tuple[int, ...]
    initial: InitialState


def controls(proto: Proto) -> tuple[Control, ...]:
    """The control inputs of a configuration that `sequence_faults` finds nothing wrong with."""
    return tuple(
        _read_control(given.name, control)
        for given in proto.sequence_batching.control_input
        for control in given.control
    )


def states(proto: Proto) -> tuple[State, ...]:
    """The states of a configuration that `sequence_faults` finds nothing wrong with."""
    return tuple(_read_state(given) for given in proto.sequence_batching.state)


def hidden_inputs(proto: Proto) -> set[str]:
    """The graph's inputs that clients do not send, because the sequence batcher does."""
    batching = proto.sequence_batching
    given = {control.name for control in batching.control_input}
    return given | {state.input_name for state in batching.state}


def hidden_outputs(proto: Proto) -> set[str]:
    """The graph's outputs that go to the sequence batcher; clients see those they list as well."""
    return {state.output_name for state in proto.sequence_batching.state}


def kind_of(control: Proto) -> ControlKind | None:
    """The kind of a `Control` message; None for a number that is none."""
    value = _Control.Kind.DESCRIPTOR.values_by_number.get(control.kind)
    return ControlKind(value.name) if value else None


def datatype_of(number: int) -> Datatype | None:
    """The datatype of a field `data_type`; None for TYPE_INVALID, and for a number that is none."""
    value = model_config_pb2.DataType.DESCRIPTOR.values_by_number.get(number)
    return dtypes.from_config(value.name) if value else None


def set_values(control: Proto) -> Iterator[str]:
    """The names of the fields that say what stands for false and true, as far as they are set."""
    return (name for name in VALUES if getattr(control, name))


def _read_control(name: str, control: Proto) -> Control:
    kind, datatype = kind_of(control), datatype_of(control.data_type)
    if kind is ControlKind.CORRID and datatype is not None:
        return Control(name, kind, datatype)
    field = next(set_values(control), None)
    if kind is None or field is None:
        raise ValueError(f"the control {name!r} is not complete")
    false, true = getattr(control, field)
    return Control(name, kind, VALUES[field], false, true)


def _read_state(given: Proto) -> State:
    datatype = datatype_of(given.data_type)
    if datatype is None:
        raise ValueError(f"the state {given.input_name!r} has no datatype")
    dims = tuple(given.dims)
    # Without an initial state Triton leaves the first input as it finds the memory; zeros are one
    # of the things it may find.
    initial = InitialState(tuple(max(dim, 1) for dim in dims))
    for said in given.initial_state:
        initial = InitialState(tuple(said.dims), said.data_file)
    return State(given.input_name, given.output_name, datatype, dims, initial)
