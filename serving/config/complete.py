"""Fills in what a configuration leaves open, as Triton does, and refuses what it refuses.

`resolve` does what needs no graph (name, backend, file name, version policy, instances), enough
to open the model; `complete` the rest (inputs, outputs, max_batch_size, batching) from the graph.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonclient.grpc import model_config_pb2

from serving.config.accelerators import accelerator_faults
from serving.config.ensemble import ensemble_faults, is_ensemble
from serving.config.graph import graph_faults
from serving.config.honoured import unhonoured
from serving.config.model import ModelConfig, Reshape, specs
from serving.config.model_metrics import metric_faults
from serving.config.parameters import parameter_faults
from serving.config.placement import place, recording_faults
from serving.config.ragged import batch_targets, ragged_faults
from serving.config.rules import KNOWN_BACKENDS, general_faults, tensor_faults
from serving.config.sequences import hidden_inputs, hidden_outputs
from serving.config.source import Fault, Source, refuse
from serving.config.splitting import splitting_faults
from serving.config.text import Proto
from serving.devices import NONE, Gpus
from serving.types import Signature, TensorSpec, shown


@dataclass(frozen=True, slots=True)
class Completion:
    """What may be filled in from the graph: anything, unless a configuration must be `complete`.

    `max_batch_size` is that of a model that can batch and does not say how much.
    """

    must_be_complete: bool = False
    max_batch_size: int = 4


DEFAULT: Final = Completion()
BACKENDS: Final = ("onnxruntime", "generation", "identity", "repeat")
DEFAULT_SEQUENCE_IDLE: Final = 1_000_000  # microseconds


def resolve(
    proto: Proto | None,
    folder: str,
    source: Source,
    *,
    files: Iterable[str] = (),
    backends: Collection[str] = BACKENDS,
    gpus: Gpus = NONE,
) -> Proto:
    """A copy of `proto` with all that the graph is not needed for; None starts from nothing.

    `folder` is the name of the model's folder, `files` the names in a folder of one of its
    versions, `gpus` what models may execute on beside the CPU. LoadFailed lists everything that
    Triton or the embedded engine refuses so far.
    """
    resolved = model_config_pb2.ModelConfig()
    if proto is not None:
        resolved.CopyFrom(proto)
    resolved.name = resolved.name or folder
    _fill_backend(resolved, frozenset(files))
    if not resolved.HasField("version_policy"):
        resolved.version_policy.latest.num_versions = 1
    if not is_ensemble(resolved):
        _fill_instances(resolved, gpus)
    refuse(
        [
            *unhonoured(resolved),
            *general_faults(resolved, folder, backends, gpus),
            *parameter_faults(resolved),
            *accelerator_faults(resolved),
            *ensemble_faults(resolved),
            *metric_faults(resolved),
        ],
        source,
    )
    refuse(recording_faults(resolved), source)
    return resolved


def complete(
    proto: Proto, signature: Signature, source: Source, completion: Completion = DEFAULT
) -> ModelConfig:
    """The complete configuration of a resolved one whose graph has `signature`.

    LoadFailed lists every way in which the two do not agree, or what is missing that must be there.
    """
    completed = model_config_pb2.ModelConfig()
    completed.CopyFrom(proto)
    if not (completed.input and completed.output):
        refuse(_missing(completed) if completion.must_be_complete else (), source)
        _fill_batching(completed, signature, source, completion.max_batch_size)
        fill_tensors(completed, signature)
    batching = completed.dynamic_batching
    if completed.HasField("dynamic_batching") and not batching.preferred_batch_size:
        batching.preferred_batch_size[:] = (
            [completed.max_batch_size] if completed.max_batch_size else []
        )
    _fill_sequences(completed)
    for memory in ("input_pinned_memory", "output_pinned_memory"):
        if not completed.optimization.HasField(memory):
            getattr(completed.optimization, memory).enable = True
    config = _read(completed, signature, source)
    validate(config, signature)
    return config


def complete_ensemble(proto: Proto, source: Source) -> ModelConfig:
    """The complete configuration of a resolved ensemble, which has no graph to be held against."""
    completed = model_config_pb2.ModelConfig()
    completed.CopyFrom(proto)
    # Triton states it of every ensemble: whether one of its models is decoupled.
    completed.model_transaction_policy.SetInParent()
    return _read(completed, Signature((), ()), source)


def validate(config: ModelConfig, signature: Signature) -> None:
    """LoadFailed unless `config` fits a graph of `signature`, such as another version's."""
    refuse(graph_faults(config.proto, signature), config.source)


def fill_tensors(proto: Proto, signature: Signature) -> None:
    """State the inputs, the outputs or both where `proto` states none, as its batch size has it.

    What a sequence's requests carry along is not for clients.
    """
    for given, graph, hidden in (
        (proto.input, signature.inputs, hidden_inputs(proto) | batch_targets(proto)),
        (proto.output, signature.outputs, hidden_outputs(proto)),
    ):
        if not given:
            visible = [spec for spec in graph if spec.name not in hidden]
            _add_tensors(given, visible, proto.max_batch_size)


def unbatched(signature: Signature) -> list[TensorSpec]:
    """What keeps a graph from batching: its tensors that do not begin with a variable dimension."""
    required = [spec for spec in signature.inputs if not spec.optional]
    return [spec for spec in (*required, *signature.outputs) if spec.dims[:1] != (-1,)]


def _read(proto: Proto, signature: Signature, source: Source) -> ModelConfig:
    refuse([*tensor_faults(proto), *ragged_faults(proto), *splitting_faults(proto)], source)
    return ModelConfig(
        proto,
        source,
        specs(proto.input),
        specs(proto.output),
        _reshapes(proto.input, signature.inputs),
        _reshapes(proto.output, signature.outputs),
        signature.deadly,
    )


def _fill_backend(proto: Proto, files: frozenset[str]) -> None:
    silent = not (proto.backend or proto.platform or proto.default_model_filename)
    for backend, (platform, filename) in KNOWN_BACKENDS.items():
        told = (platform and proto.platform == platform) or (
            not proto.platform and proto.default_model_filename == filename
        )
        if not proto.backend and (told or (silent and filename in files)):
            proto.backend = backend
    if proto.backend in KNOWN_BACKENDS:
        known = KNOWN_BACKENDS[proto.backend]
        proto.platform = proto.platform or known.platform
        proto.default_model_filename = proto.default_model_filename or known.filename


def _fill_instances(proto: Proto, gpus: Gpus) -> None:
    """One instance unless more are asked for, and the devices where they execute."""
    if not proto.instance_group:
        proto.instance_group.add(name=proto.name)
    for index, group in enumerate(proto.instance_group):
        group.name = group.name or f"{proto.name}_{index}"
        group.count = max(group.count, 1)
    place(proto, gpus)


def _missing(proto: Proto) -> Iterator[Fault]:
    for kind, tensors in (("input", proto.input), ("output", proto.output)):
        if not tensors:
            yield Fault(
                "",
                f"model '{proto.name}' must specify its {kind}s, since nothing is completed: write "
                f"them, as penstock config does, or start without --disable-auto-complete-config",
            )


def _fill_batching(proto: Proto, signature: Signature, source: Source, default: int) -> None:
    """A graph batches if every tensor begins with a variable dimension."""
    fixed = unbatched(signature)
    if not fixed:
        proto.max_batch_size = proto.max_batch_size or default
        if proto.max_batch_size > 1 and not proto.WhichOneof("scheduling_choice"):
            proto.dynamic_batching.SetInParent()
    elif proto.max_batch_size:
        refuse(
            [
                Fault(
                    "max_batch_size",
                    f"autofill failed for model '{proto.name}': model does not support batching "
                    "while non-zero max_batch_size is specified: the graph gives "
                    f"'{fixed[0].name}' the shape {shown(fixed[0].dims)}, whose first dimension is "
                    "not variable; write max_batch_size: 0, or export the graph with a dynamic "
                    "batch dimension",
                )
            ],
            source,
        )


def _fill_sequences(proto: Proto) -> None:
    if not proto.HasField("sequence_batching"):
        return
    batching = proto.sequence_batching
    batching.max_sequence_idle_microseconds = (
        batching.max_sequence_idle_microseconds or DEFAULT_SEQUENCE_IDLE
    )
    if batching.HasField("oldest") and not batching.oldest.preferred_batch_size:
        batching.oldest.preferred_batch_size[:] = (
            [proto.max_batch_size] if proto.max_batch_size else []
        )


def _add_tensors(tensors: Any, graph: Iterable[TensorSpec], max_batch_size: int) -> None:
    for spec in graph:
        if spec.optional:
            continue  # Triton offers a graph's defaults to clients only where they are asked for
        tensor = tensors.add(
            name=spec.name,
            data_type=model_config_pb2.DataType.Value(spec.datatype.config),
            dims=spec.dims[1 if max_batch_size else 0 :],
        )
        if not tensor.dims:  # clients see one element per row
            tensor.dims.append(1)
            if max_batch_size:
                tensor.reshape.SetInParent()


def _reshapes(tensors: Any, graph: Iterable[TensorSpec]) -> Mapping[str, Reshape]:
    """The tensors whose `reshape` says so, and scalars, which clients see as [1]."""
    scalars = {spec.name for spec in graph if not spec.dims}
    return {
        tensor.name: Reshape(
            tuple(tensor.dims), () if tensor.name in scalars else tuple(tensor.reshape.shape)
        )
        for tensor in tensors
        if tensor.HasField("reshape") or tensor.name in scalars
    }
