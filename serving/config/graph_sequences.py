"""Holds control inputs and states against the graph; clients do not see them, the model does.

The rules and the sentences before the cure are those of Triton's ONNX Runtime backend.
"""

from collections.abc import Iterator

from serving.config.sequences import Control, State, controls, states
from serving.config.source import Fault
from serving.config.text import Proto
from serving.types import Signature, TensorSpec, may_be_alike, shown


def sequence_graph_faults(proto: Proto, signature: Signature) -> Iterator[Fault]:
    """Where the controls and states of `proto` are no inputs and outputs of `signature`."""
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in signature.outputs}
    batch = (-1,) if proto.max_batch_size else ()
    for index, control in enumerate(controls(proto)):
        path = f"sequence_batching.control_input[{index}]"
        yield from _control(control, inputs.get(control.name), path, len(batch))
    for index, state in enumerate(states(proto)):
        path = f"sequence_batching.state[{index}]"
        for kind, name, graph in (
            ("input", state.input_name, inputs),
            ("output", state.output_name, outputs),
        ):
            yield from _state(state, kind, name, graph, batch, f"{path}.{kind}_name")


def _control(control: Control, spec: TensorSpec | None, path: str, skip: int) -> Iterator[Fault]:
    if spec is None:
        yield Fault(
            path,
            f"configuration specified sequence control '{control.name}', but model does not "
            "provide that input",
        )
        return
    if spec.dims[skip:] != (1,):
        yield Fault(
            path,
            f"sequence control '{control.name}' in model has dims {shown(spec.dims[skip:])} but "
            "dims [1] is expected",
        )
    if spec.datatype is not control.datatype:
        yield Fault(
            path,
            f"sequence control '{control.name}', the model expects data-type "
            f"{spec.datatype.config} but the model configuration specifies data-type "
            f"{control.datatype.config}",
        )


def _state(
    state: State,
    kind: str,
    name: str,
    graph: dict[str, TensorSpec],
    batch: tuple[int, ...],
    path: str,
) -> Iterator[Fault]:
    spec = graph.get(name)
    if spec is None:
        yield Fault(
            path,
            f"unexpected inference {kind} '{name}', allowed {kind}s are: "
            f"{', '.join(graph) or 'none'}",
        )
        return
    if spec.datatype is not state.datatype:
        yield Fault(
            path,
            f"configuration expects datatype {state.datatype.config} for {kind} state '{name}', "
            f"model provides {spec.datatype.config}",
        )
    full = (*batch, *state.dims)
    if not may_be_alike(full, spec.dims):
        yield Fault(
            path,
            f"{kind} state '{name}': the model expects shape {shown(spec.dims)} but the model "
            f"configuration specifies shape {shown(full)}",
        )
