"""Holds a configuration against the graph: what each says, and how to make them agree.

The rules and the sentences before the cure are those of Triton's ONNX Runtime backend.
"""

from collections.abc import Iterator
from typing import Final

from tritonclient.grpc import model_config_pb2

from serving.config.graph_sequences import sequence_graph_faults
from serving.config.ragged import (
    batch_outputs,
    batch_targets,
    ragged_graph_faults,
    ragged_inputs,
)
from serving.config.sequences import hidden_inputs
from serving.config.source import Fault
from serving.config.text import Proto, did_you_mean
from serving.types import Signature, TensorSpec, shown

# Backends that merge no tensors, so that a request may lack what its neighbours have.
_TAKES_OPTIONAL: Final = ("generation",)


def graph_faults(proto: Proto, signature: Signature) -> Iterator[Fault]:
    """Where the inputs and outputs of `proto` are not those of `signature`."""
    yield from _missing_inputs(proto, signature)
    one_row = ragged_inputs(proto) | batch_outputs(proto).keys()
    for kind, tensors, graph in (
        ("input", proto.input, signature.inputs),
        ("output", proto.output, signature.outputs),
    ):
        specs = {spec.name: spec for spec in graph}
        for index, tensor in enumerate(tensors):
            path = f"{kind}[{index}]"
            spec = specs.get(tensor.name)
            if spec is None:
                hint = did_you_mean(tensor.name, specs) if specs else ""
                yield Fault(
                    f"{path}.name",
                    f"unexpected inference {kind} '{tensor.name}', allowed {kind}s are: "
                    f"{', '.join(specs) or 'none'}{hint}",
                )
            else:
                yield from _datatype(tensor, spec, path, kind)
                if tensor.name not in one_row:
                    yield from _shape(tensor, spec, path, proto.max_batch_size, kind == "output")
    yield from _optional_inputs(proto, signature)
    yield from sequence_graph_faults(proto, signature)
    yield from ragged_graph_faults(proto, signature)


def _missing_inputs(proto: Proto, signature: Signature) -> Iterator[Fault]:
    given = {tensor.name for tensor in proto.input} | hidden_inputs(proto)
    given |= batch_targets(proto)
    missing = [spec for spec in signature.inputs if not spec.optional and spec.name not in given]
    if missing:
        required = sum(not spec.optional for spec in signature.inputs)
        named = ", ".join(f"'{spec.name}' ({spec.datatype.config})" for spec in missing)
        yield Fault(
            "input",
            f"configuration expects {len(given)} inputs, model provides {required}: add "
            f"{named}, or leave all inputs out to have them read from the graph",
        )


def _optional_inputs(proto: Proto, signature: Signature) -> Iterator[Fault]:
    optional = {spec.name: spec.optional for spec in signature.inputs}
    for index, tensor in enumerate(proto.input):
        path = f"input[{index}].optional"
        if tensor.optional and proto.max_batch_size and proto.backend not in _TAKES_OPTIONAL:
            yield Fault(
                path,
                f"optional input '{tensor.name}' is not supported for models that support "
                "batching: write max_batch_size: 0, or make every client send it",
            )
        elif tensor.name in optional and tensor.optional != optional[tensor.name]:
            fact = "has a default" if optional[tensor.name] else "has no default"
            cure = "optional: true" if optional[tensor.name] else "optional: false"
            yield Fault(path, f"input '{tensor.name}' {fact} in the graph: write {cure}")


def _datatype(tensor: Proto, spec: TensorSpec, path: str, kind: str) -> Iterator[Fault]:
    given = model_config_pb2.DataType.Name(tensor.data_type)
    if given != spec.datatype.config:
        yield Fault(
            f"{path}.data_type",
            f"configuration expects datatype {given} for {kind} '{tensor.name}', model provides "
            f"{spec.datatype.config}: write data_type: {spec.datatype.config}",
        )


def _shape(
    tensor: Proto, spec: TensorSpec, path: str, max_batch_size: int, exact: bool
) -> Iterator[Fault]:
    """A variable dimension of the graph takes any size that an input states; outputs are exact.

    An output without dimensions may have any that the graph does not state.
    """
    reshaped = tensor.HasField("reshape")
    path += ".reshape.shape" if reshaped else ".dims"
    dims = tuple(tensor.reshape.shape if reshaped else tensor.dims)
    if max_batch_size > 0 and not (exact and not spec.dims):
        if spec.dims[:1] != (-1,):
            yield Fault(
                "max_batch_size",
                f"tensor '{spec.name}': for the model to support batching the shape should have "
                "at least 1 dimension and the first dimension must be -1; but shape expected by "
                f"the model is {shown(spec.dims)}: write max_batch_size: 0 with the whole shape "
                "in dims, or export the graph with a dynamic batch dimension",
            )
        elif not _fits(full := (-1, *dims), spec.dims, exact):
            yield Fault(
                path,
                f"tensor '{spec.name}': the model expects {len(spec.dims)} dimensions (shape "
                f"{shown(spec.dims)}) but the model configuration specifies {len(full)} "
                "dimensions (an initial batch dimension because max_batch_size > 0 followed by "
                f"the explicit tensor shape, making complete shape {shown(full)}): write "
                f"dims: {_written(spec.dims[1:])}, without the batch dimension",
            )
    elif not spec.dims:
        if any(dim != 1 for dim in dims):
            yield Fault(
                path,
                f"scalar tensor '{spec.name}', should only provide 1 in the model configuration "
                f"when the model doesn't support batching. Model configuration provided: "
                f"{shown(dims)}: write dims: [ 1 ]",
            )
    elif not _fits(dims, spec.dims, exact):
        yield Fault(
            path,
            f"tensor '{spec.name}': the model expects {len(spec.dims)} dimensions (shape "
            f"{shown(spec.dims)}) but the model configuration specifies {len(dims)} dimensions "
            f"(shape {shown(dims)}): write dims: {_written(spec.dims)}, or a max_batch_size above "
            "0 if the first dimension is the batch",
        )


def _fits(dims: tuple[int, ...], graph: tuple[int, ...], exact: bool) -> bool:
    return len(dims) == len(graph) and all(
        given == wanted or (wanted == -1 and not exact)
        for given, wanted in zip(dims, graph, strict=True)
    )


def _written(dims: tuple[int, ...]) -> str:
    """As config.pbtxt spells them; a tensor of no dimensions is one element to its clients."""
    return f"[ {', '.join(map(str, dims))} ]" if dims else "[ 1 ] reshape: { shape: [ ] }"
