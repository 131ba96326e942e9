"""What the engine reads from a complete configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tritonclient.grpc import model_config_pb2

from serving import dtypes
from serving.config import ensemble, parameters
from serving.config.accelerators import tolerance
from serving.config.ensemble import Step
from serving.config.model_metrics import first_response_bounds
from serving.config.placement import Placement, placements
from serving.config.ragged import BatchInput, batch_inputs, batch_outputs, ragged_inputs
from serving.config.sequences import Control, State, controls, states
from serving.config.source import Source
from serving.config.text import Proto
from serving.config.warmup import WarmupSample, warmup_samples
from serving.types import (
    NOTHING_DEADLY,
    BatchPolicy,
    DeadlyValues,
    QueuePolicy,
    SequencePolicy,
    TensorSpec,
    TimeoutAction,
)


@dataclass(frozen=True, slots=True)
class Reshape:
    """The two shapes of one tensor, without the batch: as clients see it and as the graph does.

    Both have the same number of variable dimensions, in the same order.
    """

    client: tuple[int, ...]
    graph: tuple[int, ...]

    def to_graph(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The graph's shape of a tensor that a client sends as `shape`, both without the batch."""
        return _translate(shape, self.client, self.graph)

    def to_client(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The client's shape of a tensor that the graph returns as `shape`.

        A graph that does not say how many dimensions there are looks as if there were none; what
        has some goes as it is, as with Triton.
        """
        if shape and not self.graph:
            return shape
        return _translate(shape, self.graph, self.client)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A complete configuration: the message itself and what the engine asks of it.

    `dims` of `inputs` and `outputs` are what clients see, without the batch dimension. A tensor
    that the graph takes or gives in another shape is in `input_reshapes` or `output_reshapes`;
    what no client may send to it is `deadly`.
    """

    proto: Proto
    source: Source
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_reshapes: Mapping[str, Reshape] = field(default_factory=dict)
    output_reshapes: Mapping[str, Reshape] = field(default_factory=dict)
    deadly: DeadlyValues = NOTHING_DEADLY

    @property
    def name(self) -> str:
        """The model's name, which is its folder's."""
        return str(self.proto.name)

    @property
    def backend(self) -> str:
        """What executes the model: `onnxruntime`, `identity`, …"""
        return str(self.proto.backend)

    @property
    def platform(self) -> str:
        """What the metadata calls the platform."""
        return str(self.proto.platform or self.proto.backend)

    @property
    def max_batch_size(self) -> int:
        """Rows that one execution takes; 0 for a model that does not batch."""
        return int(self.proto.max_batch_size)

    @property
    def is_ensemble(self) -> bool:
        """Whether the model runs other models in the place of a graph."""
        return ensemble.is_ensemble(self.proto)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What an ensemble runs; nothing for another model."""
        return ensemble.steps(self.proto)

    @property
    def caches_responses(self) -> bool:
        """Whether answers may come from the server's response cache, if it has one."""
        return bool(self.proto.response_cache.enable)

    @property
    def placements(self) -> list[Placement]:
        """Where each of the sessions executes, in the order in which they are counted."""
        return placements(self.proto)

    @property
    def formats(self) -> dict[str, str]:
        """The layout of image inputs by name, such as `FORMAT_NCHW`, where it is stated."""
        name = model_config_pb2.ModelInput.Format.Name
        return {tensor.name: name(tensor.format) for tensor in self.proto.input if tensor.format}

    @property
    def label_filenames(self) -> dict[str, str]:
        """The file of class names of each output that has one, relative to the model's folder."""
        return {
            tensor.name: tensor.label_filename
            for tensor in self.proto.output
            if tensor.label_filename
        }

    @property
    def default_model_filename(self) -> str:
        """The file that the backend opens, relative to the version's folder."""
        return str(self.proto.default_model_filename)

    @property
    def latency_objective(self) -> int:
        """Within how many nanoseconds requests shall be answered or refused; 0: not said."""
        return parameters.latency_objective(self.proto)

    @property
    def accelerator_tolerance(self) -> float:
        """How much an accelerator's answers may differ, absolutely and in shares of the value."""
        return tolerance(self.proto)

    @property
    def splits_large_requests(self) -> bool:
        """Whether requests of more than `max_batch_size` rows run as several."""
        return parameters.splits_large_requests(self.proto)

    @property
    def reject_non_finite_inputs(self) -> bool:
        """Whether requests that hold NaN or infinity are refused."""
        return parameters.reject_non_finite_inputs(self.proto)

    @property
    def generation_max_tokens(self) -> int:
        """The most tokens that a request may ask for of a generated text."""
        return parameters.generation_max_tokens(self.proto)

    @property
    def warmup_samples(self) -> tuple[WarmupSample, ...]:
        """What the model runs before it is ready."""
        return warmup_samples(self.proto)

    def batch_policy(self, default_max_queue: int) -> BatchPolicy:
        """How requests are merged; `default_max_queue` holds where no `max_queue_size` is given."""
        batching = self.proto.dynamic_batching
        return BatchPolicy(
            max_rows=self.max_batch_size or 1,
            queue=_queue_policy(batching.default_queue_policy, default_max_queue),
            merge=self.max_batch_size > 0 and self.proto.HasField("dynamic_batching"),
            preferred=tuple(sorted(set(batching.preferred_batch_size))),
            max_delay=batching.max_queue_delay_microseconds * 1000,
            preserve_ordering=batching.preserve_ordering,
            priority_levels=batching.priority_levels,
            default_level=batching.default_priority_level if batching.priority_levels else 0,
            level_queues={
                level: _queue_policy(policy, default_max_queue)
                for level, policy in batching.priority_queue_policy.items()
            },
        )

    @property
    def metric_tags(self) -> dict[str, str]:
        """Further labels of the model's metrics."""
        return dict(self.proto.metric_tags)

    @property
    def first_response_bounds(self) -> tuple[float, ...]:
        """The upper bounds of the first response's buckets, in milliseconds."""
        return first_response_bounds(self.proto)

    @property
    def is_decoupled(self) -> bool:
        """Whether a request may get any number of responses."""
        return bool(self.proto.model_transaction_policy.decoupled)

    @property
    def has_sequences(self) -> bool:
        """Whether requests belong to sequences, each of which stays with one instance."""
        return bool(self.proto.HasField("sequence_batching"))

    @property
    def controls(self) -> tuple[Control, ...]:
        """The inputs that tell the model where in its sequence a request stands."""
        return controls(self.proto)

    @property
    def states(self) -> tuple[State, ...]:
        """The outputs that come back as inputs with the next request of their sequence."""
        return states(self.proto)

    @property
    def hidden_inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs that no client sends; `dims` are without the batch dimension."""
        return (
            *(TensorSpec(control.name, control.datatype, (1,)) for control in self.controls),
            *(TensorSpec(state.input_name, state.datatype, state.dims) for state in self.states),
        )

    @property
    def ragged_inputs(self) -> frozenset[str]:
        """The inputs that may differ in shape within a batch."""
        return ragged_inputs(self.proto)

    @property
    def batch_inputs(self) -> tuple[BatchInput, ...]:
        """The inputs that tell the graph what the requests of a batch are made of."""
        return batch_inputs(self.proto)

    @property
    def batch_outputs(self) -> dict[str, str]:
        """The outputs that are one row of all requests', with the input that says the shapes."""
        return batch_outputs(self.proto)

    @property
    def is_ragged(self) -> bool:
        """Whether the rows of a batch need not be what the graph's first dimensions count."""
        return bool(self.ragged_inputs or self.batch_inputs or self.batch_outputs)

    def sequence_policy(self, default_max_queue: int) -> SequencePolicy:
        """How sequences share the instances; no more than `default_max_queue` requests wait."""
        batching = self.proto.sequence_batching
        rows, direct, oldest = self.max_batch_size or 1, batching.direct, batching.oldest
        policy = SequencePolicy(
            slots=rows,
            max_idle=batching.max_sequence_idle_microseconds * 1000,
            max_queue=default_max_queue,
            max_delay=direct.max_queue_delay_microseconds * 1000,
            utilization=direct.minimum_slot_utilization,
        )
        if not batching.HasField("oldest"):
            return policy
        merge = BatchPolicy(
            max_rows=rows,
            queue=QueuePolicy(default_max_queue),
            merge=self.max_batch_size > 0,
            preferred=tuple(sorted(set(oldest.preferred_batch_size))),
            max_delay=oldest.max_queue_delay_microseconds * 1000,
        )
        return replace(policy, slots=oldest.max_candidate_sequences or rows, merge=merge)


def likely_batch_sizes(proto: Proto) -> list[int]:
    """The batch sizes to expect: powers of two, preferred sizes and the largest; ascending."""
    largest = max(1, proto.max_batch_size)
    powers = {2**exponent for exponent in range(largest.bit_length())}
    return sorted(powers | set(proto.dynamic_batching.preferred_batch_size) | {largest})


def choose(proto: Proto | None, versions: Iterable[int]) -> list[int]:
    """Those of the existing `versions` that the version policy serves, ascending."""
    existing = sorted(set(versions))
    if proto is None or not proto.HasField("version_policy"):
        return existing[-1:]
    policy = proto.version_policy
    if policy.HasField("specific"):
        return [version for version in existing if version in policy.specific.versions]
    if policy.HasField("latest"):
        return existing[-policy.latest.num_versions :] if policy.latest.num_versions else []
    return existing  # `all`, and a policy that makes no choice


def _queue_policy(proto: Proto, default_max_queue: int) -> QueuePolicy:
    delays = proto.timeout_action == model_config_pb2.ModelQueuePolicy.DELAY
    return QueuePolicy(
        max_queue=proto.max_queue_size or default_max_queue,
        timeout=proto.default_timeout_microseconds * 1000,
        timeout_action=TimeoutAction.DELAY if delays else TimeoutAction.REJECT,
        allow_timeout_override=proto.allow_timeout_override,
    )


def specs(tensors: Iterable[Proto]) -> tuple[TensorSpec, ...]:
    """The specs of `input` or `output`; the datatypes must be valid."""
    return tuple(
        TensorSpec(
            tensor.name,
            datatype,
            tuple(tensor.dims),
            bool(getattr(tensor, "optional", False)),  # outputs have no such field
        )
        for tensor in tensors
        if (datatype := dtypes.from_config(model_config_pb2.DataType.Name(tensor.data_type)))
    )


def _translate(
    shape: tuple[int, ...], source: tuple[int, ...], target: tuple[int, ...]
) -> tuple[int, ...]:
    variable = iter([size for size, dim in zip(shape, source, strict=True) if dim == -1])
    return tuple(next(variable) if dim == -1 else dim for dim in target)
