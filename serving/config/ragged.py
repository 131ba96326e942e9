"""Ragged batches: inputs of different sizes in one batch, and what the model is told of them.

A ragged input reaches the model as one row of all its elements, one request after the other. A
batch input tells the model where each request's begin; a batch output is such a row of results.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tritonclient.grpc import model_config_pb2

from serving.config.sequences import datatype_of
from serving.config.source import Fault
from serving.config.text import Proto
from serving.dtypes import Datatype
from serving.types import Signature, TensorSpec, shown

_Kind: Final[Any] = model_config_pb2.BatchInput.Kind
_DATATYPES: Final = (Datatype.INT32, Datatype.FP32)


class BatchInputKind(Enum):
    """What a batch input tells of its source."""

    ELEMENT_COUNT = "BATCH_ELEMENT_COUNT"
    ACCUMULATED_ELEMENT_COUNT = "BATCH_ACCUMULATED_ELEMENT_COUNT"
    ACCUMULATED_ELEMENT_COUNT_WITH_ZERO = "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO"
    MAX_ELEMENT_COUNT_AS_SHAPE = "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE"
    ITEM_SHAPE = "BATCH_ITEM_SHAPE"
    ITEM_SHAPE_FLATTEN = "BATCH_ITEM_SHAPE_FLATTEN"


@dataclass(frozen=True, slots=True)
class BatchInput:
    """Inputs of the graph, `targets`, that tell of the input `source` of every request."""

    kind: BatchInputKind
    targets: tuple[str, ...]
    datatype: Datatype
    source: str


def ragged_inputs(proto: Proto) -> frozenset[str]:
    """The inputs that may differ in shape within a batch."""
    return frozenset(tensor.name for tensor in proto.input if tensor.allow_ragged_batch)


def batch_inputs(proto: Proto) -> tuple[BatchInput, ...]:
    """The batch inputs of a configuration that `ragged_faults` finds nothing wrong with."""
    return tuple(_read(given) for given in proto.batch_input)


def batch_outputs(proto: Proto) -> dict[str, str]:
    """The outputs that are one row of all requests', each with the input that says the shapes."""
    return {
        target: given.source_input[0]
        for given in proto.batch_output
        for target in given.target_name
    }


def batch_targets(proto: Proto) -> set[str]:
    """The graph's inputs that clients do not send, because the batch is told of by them."""
    return {target for given in proto.batch_input for target in given.target_name}


def ragged_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with batch inputs and outputs in themselves."""
    inputs = {tensor.name: tensor for tensor in proto.input}
    outputs = {tensor.name for tensor in proto.output}
    for index, given in enumerate(proto.batch_input):
        path, kind = f"batch_input[{index}]", _Kind.DESCRIPTOR.values_by_number.get(given.kind)
        yield from _sources(given, path, f"batch input kind '{kind.name if kind else ''}'", inputs)
        if datatype_of(given.data_type) not in _DATATYPES:
            yield Fault(
                f"{path}.data_type", "batch input data type must be TYPE_INT32 or TYPE_FP32"
            )
    for index, given in enumerate(proto.batch_output):
        path = f"batch_output[{index}]"
        what = "batch output kind 'BATCH_SCATTER_WITH_INPUT_SHAPE'"
        yield from _sources(given, path, what, inputs)
        for place, name in enumerate(given.target_name):
            where = f"{path}.target_name[{place}]"
            if name not in outputs:
                yield Fault(where, f"unknown target output name '{name}'")
            if name in given.target_name[:place]:
                yield Fault(where, f"target output name '{name}' can only be specified once")
    yield from _scattered(proto)
    yield from _inputs(proto)


def ragged_graph_faults(proto: Proto, signature: Signature) -> Iterator[Fault]:
    """Where ragged and batch inputs are no inputs of the graph that can be them."""
    graph = {spec.name: spec for spec in signature.inputs}
    for index, tensor in enumerate(proto.input):
        spec = graph.get(tensor.name)
        if tensor.allow_ragged_batch and spec is not None and spec.dims != (-1,):
            yield Fault(
                f"input[{index}].allow_ragged_batch",
                "configuration expects model provides input with shape [-1] for ragged input "
                f"'{tensor.name}', model provides {shown(spec.dims)}",
            )
    for index, given in enumerate(proto.batch_input):
        for target in given.target_name:
            yield from _target(target, graph.get(target), given, f"batch_input[{index}]")


def _read(given: Proto) -> BatchInput:
    datatype = datatype_of(given.data_type)
    if datatype is None:
        raise ValueError(f"the batch input {list(given.target_name)} has no datatype")
    kind = BatchInputKind(_Kind.Name(given.kind))
    return BatchInput(kind, tuple(given.target_name), datatype, given.source_input[0])


def _sources(given: Proto, path: str, what: str, inputs: Mapping[str, Proto]) -> Iterator[Fault]:
    if len(given.source_input) != 1:
        yield Fault(path, f"{what} expects 1 source input, got {len(given.source_input)}")
    for name in given.source_input:
        if name not in inputs:
            yield Fault(f"{path}.source_input", f"unknown source input name '{name}'")
        elif inputs[name].optional:
            yield Fault(
                f"{path}.source_input",
                f"{what} has the optional source input '{name}': a request without it would tell "
                "nothing",
            )


def _scattered(proto: Proto) -> Iterator[Fault]:
    """Batch outputs that vary in more dimensions than the inputs have that say their shapes."""
    ranks = {
        tensor.name: len(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
        for tensor in proto.input
    }
    sources = {
        target: source
        for given in proto.batch_output
        for source in given.source_input
        for target in given.target_name
    }
    for index, output in enumerate(proto.output):
        source = sources.get(output.name, "")
        if source in ranks and -1 in output.dims[ranks[source] :]:
            yield Fault(
                f"output[{index}].dims",
                f"batch output '{output.name}' varies in a dimension that its source input "
                f"'{source}' does not have",
            )


def _inputs(proto: Proto) -> Iterator[Fault]:
    for index, tensor in enumerate(proto.input):
        path = f"input[{index}].allow_ragged_batch"
        if tensor.allow_ragged_batch and not proto.max_batch_size:
            yield Fault(path, f"input '{tensor.name}' is ragged in a model that does not batch")
        if tensor.allow_ragged_batch and tensor.optional:
            yield Fault(
                path,
                "configuration expects model provides input with shape [-1] for ragged input "
                f"'{tensor.name}', which is not supported for optional input",
            )
        if tensor.allow_ragged_batch and proto.HasField("sequence_batching"):
            yield Fault(path, "ragged batches of sequences are not honoured by the embedded engine")


def _target(name: str, spec: TensorSpec | None, given: Proto, path: str) -> Iterator[Fault]:
    if spec is None:
        yield Fault(f"{path}.target_name", f"the model provides no input '{name}'")
        return
    datatype = datatype_of(given.data_type)
    if datatype is not None and spec.datatype is not datatype:
        yield Fault(
            f"{path}.data_type",
            f"configuration expects datatype {datatype.config} for batch input '{name}', model "
            f"provides {spec.datatype.config}",
        )
