"""Holds an ensemble against the models of its steps: names, datatypes, shapes and batch sizes.

The rules and the sentences before the cure are Triton's own (core, `ensemble_utils.cc`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from tritonclient.grpc import model_config_pb2

from serving.config.source import Fault
from serving.config.text import Proto, did_you_mean
from serving.types import may_be_alike, shown


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a tensor has to be, as `model` says first; `dims` are without the batch."""

    model: str
    data_type: int
    dims: tuple[int, ...]
    batches: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return (-1, *self.dims) if self.batches else self.dims


def step_faults(proto: Proto, models: Sequence[Proto]) -> Iterator[Fault]:
    """Where an ensemble and the complete configurations of its steps' `models` do not agree."""
    batches = proto.max_batch_size > 0
    kinds = {
        tensor.name: _Kind(
            proto.name,
            tensor.data_type,
            tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims),
            batches,
        )
        for tensor in chain(proto.output, proto.input)
    }
    for index, (step, model) in enumerate(zip(proto.ensemble_scheduling.step, models, strict=True)):
        path = f"ensemble_scheduling.step[{index}]"
        yield from _decoupled(proto, model, path)
        yield from _batch_size(proto, model, path)
        yield from _names(proto, step.input_map, model.input, model.name, path, "input")
        yield from _unmapped(proto, step, model, path)
        yield from _names(proto, step.output_map, model.output, model.name, path, "output")
        for field, mapping, tensors in (
            ("input_map", step.input_map, model.input),
            ("output_map", step.output_map, model.output),
        ):
            yield from _consistent(proto, mapping, tensors, model, f"{path}.{field}", kinds)


def _decoupled(proto: Proto, model: Proto, path: str) -> Iterator[Fault]:
    if model.model_transaction_policy.decoupled:
        yield Fault(
            f"{path}.model_name",
            f"ensemble '{proto.name}' has a step of model '{model.name}', which is decoupled: the "
            "embedded engine does not serve ensembles of decoupled models; ask the model itself, "
            "or serve the ensemble with a Triton server",
        )


def _batch_size(proto: Proto, model: Proto, path: str) -> Iterator[Fault]:
    """A model that does not batch may be part of an ensemble that does; shapes decide then."""
    if 0 < model.max_batch_size < proto.max_batch_size:
        yield Fault(
            f"{path}.model_name",
            f"ensemble {proto.name} allows maximum batch size {proto.max_batch_size}, but it "
            f"contains model {model.name} which only allows maximum batch size to be "
            f"{model.max_batch_size}: lower the one or raise the other",
        )


def _names(
    proto: Proto,
    mapping: Mapping[str, str],
    tensors: Iterable[Proto],
    model: str,
    path: str,
    kind: str,
) -> Iterator[Fault]:
    known = [tensor.name for tensor in tensors]
    way = "to" if kind == "input" else "from"
    verb = "mapping" if kind == "input" else "mapped"
    for name, tensor in mapping.items():
        if name not in known:
            yield Fault(
                f'{path}.{kind}_map["{name}"]',
                f"in ensemble {proto.name}, ensemble tensor {tensor} is {verb} {way} non-existing "
                f"{kind} {name} in model {model}{did_you_mean(name, known)}",
            )


def _unmapped(proto: Proto, step: Proto, model: Proto, path: str) -> Iterator[Fault]:
    for tensor in model.input:
        if tensor.name not in step.input_map and not tensor.optional:
            yield Fault(
                f"{path}.input_map",
                f"in ensemble {proto.name}, input {tensor.name} in model {model.name} is not "
                "mapped to any ensemble tensors: add it to the input_map",
            )


def _consistent(
    proto: Proto,
    mapping: Mapping[str, str],
    tensors: Iterable[Proto],
    model: Proto,
    path: str,
    kinds: dict[str, _Kind],
) -> Iterator[Fault]:
    """Hold each mapped tensor against what was said of it before, or remember what is said now."""
    for tensor in tensors:
        name = mapping.get(tensor.name)
        if name is None:
            continue
        kind = _Kind(model.name, tensor.data_type, tuple(tensor.dims), model.max_batch_size > 0)
        if reason := _difference(kinds.setdefault(name, kind), kind):
            yield Fault(
                f'{path}["{tensor.name}"]',
                f"in ensemble {proto.name}, ensemble tensor {name}: {reason}",
            )


def _difference(first: _Kind, second: _Kind) -> str:
    """Why a tensor cannot be both.

    One shape may state the batch dimension that the other implies; what varies is looked at when
    a request runs.
    """
    if first.data_type != second.data_type:
        named = model_config_pb2.DataType.Name
        return (
            f"inconsistent data type: {named(first.data_type)} is inferred from model "
            f"{first.model} while {named(second.data_type)} is inferred from model {second.model}"
        )
    if not (may_be_alike(first.dims, second.dims) or may_be_alike(first.shape, second.shape)):
        return (
            f"inconsistent shape: {shown(first.shape)} is inferred from model {first.model} "
            f"while {shown(second.shape)} is inferred from model {second.model}"
        )
    return ""
