"""Which fields of a configuration the embedded engine honours; the others are refused by name."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from serving.config.source import Fault
from serving.config.text import Proto

# A message that is listed may be present; of its fields, those that are listed may be set. A
# field that says no more than the default, such as `response_cache { enable: false }`, is not set.
HONOURED: Final = frozenset(
    {
        "name",
        "platform",
        "backend",
        "max_batch_size",
        "input",
        "input.name",
        "input.data_type",
        "input.format",
        "input.dims",
        "input.reshape",
        "input.reshape.shape",
        "input.optional",
        "input.allow_ragged_batch",
        "output",
        "output.name",
        "output.data_type",
        "output.dims",
        "output.reshape",
        "output.reshape.shape",
        "output.label_filename",
        "batch_input",
        "batch_input.kind",
        "batch_input.target_name",
        "batch_input.data_type",
        "batch_input.source_input",
        "batch_output",
        "batch_output.kind",
        "batch_output.target_name",
        "batch_output.source_input",
        "version_policy",
        "version_policy.latest",
        "version_policy.latest.num_versions",
        "version_policy.all",
        "version_policy.specific",
        "version_policy.specific.versions",
        "instance_group",
        "instance_group.name",
        "instance_group.kind",
        "instance_group.count",
        "instance_group.gpus",
        "instance_group.passive",
        "dynamic_batching",
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.max_queue_delay_microseconds",
        "dynamic_batching.default_queue_policy",
        "dynamic_batching.default_queue_policy.timeout_action",
        "dynamic_batching.default_queue_policy.default_timeout_microseconds",
        "dynamic_batching.default_queue_policy.allow_timeout_override",
        "dynamic_batching.default_queue_policy.max_queue_size",
        "dynamic_batching.preserve_ordering",
        "dynamic_batching.priority_levels",
        "dynamic_batching.default_priority_level",
        "dynamic_batching.priority_queue_policy",
        "dynamic_batching.priority_queue_policy.value.timeout_action",
        "dynamic_batching.priority_queue_policy.value.default_timeout_microseconds",
        "dynamic_batching.priority_queue_policy.value.allow_timeout_override",
        "dynamic_batching.priority_queue_policy.value.max_queue_size",
        "sequence_batching",
        "sequence_batching.max_sequence_idle_microseconds",
        "sequence_batching.direct",
        "sequence_batching.direct.max_queue_delay_microseconds",
        "sequence_batching.direct.minimum_slot_utilization",
        "sequence_batching.oldest",
        "sequence_batching.oldest.max_candidate_sequences",
        "sequence_batching.oldest.preferred_batch_size",
        "sequence_batching.oldest.max_queue_delay_microseconds",
        "sequence_batching.oldest.preserve_ordering",
        "sequence_batching.control_input",
        "sequence_batching.control_input.name",
        "sequence_batching.control_input.control",
        "sequence_batching.control_input.control.kind",
        "sequence_batching.control_input.control.int32_false_true",
        "sequence_batching.control_input.control.fp32_false_true",
        "sequence_batching.control_input.control.bool_false_true",
        "sequence_batching.control_input.control.data_type",
        "sequence_batching.state",
        "sequence_batching.state.input_name",
        "sequence_batching.state.output_name",
        "sequence_batching.state.data_type",
        "sequence_batching.state.dims",
        "sequence_batching.state.initial_state",
        "sequence_batching.state.initial_state.data_type",
        "sequence_batching.state.initial_state.dims",
        "sequence_batching.state.initial_state.zero_data",
        "sequence_batching.state.initial_state.data_file",
        "sequence_batching.state.initial_state.name",
        "sequence_batching.state.use_same_buffer_for_input_output",
        "sequence_batching.state.use_growable_memory",
        "ensemble_scheduling",
        "ensemble_scheduling.step",
        "ensemble_scheduling.step.model_name",
        "ensemble_scheduling.step.model_version",
        "ensemble_scheduling.step.input_map",
        "ensemble_scheduling.step.output_map",
        "optimization",
        "optimization.graph",
        "optimization.graph.level",
        "optimization.cuda",
        "optimization.execution_accelerators",
        "optimization.execution_accelerators.gpu_execution_accelerator",
        "optimization.execution_accelerators.gpu_execution_accelerator.name",
        "optimization.execution_accelerators.gpu_execution_accelerator.parameters",
        "optimization.execution_accelerators.cpu_execution_accelerator",
        "optimization.execution_accelerators.cpu_execution_accelerator.name",
        "optimization.execution_accelerators.cpu_execution_accelerator.parameters",
        "optimization.input_pinned_memory",
        "optimization.input_pinned_memory.enable",
        "optimization.output_pinned_memory",
        "optimization.output_pinned_memory.enable",
        "default_model_filename",
        "parameters",
        "parameters.value.string_value",
        "model_warmup",
        "model_warmup.name",
        "model_warmup.batch_size",
        "model_warmup.inputs",
        "model_warmup.inputs.value.data_type",
        "model_warmup.inputs.value.dims",
        "model_warmup.inputs.value.zero_data",
        "model_warmup.inputs.value.random_data",
        "model_warmup.inputs.value.input_data_file",
        "model_warmup.count",
        "metric_tags",
        "model_metrics",
        "model_metrics.metric_control",
        "model_metrics.metric_control.metric_identifier",
        "model_metrics.metric_control.metric_identifier.family",
        "model_metrics.metric_control.histogram_options",
        "model_metrics.metric_control.histogram_options.buckets",
        "model_transaction_policy",
        "model_transaction_policy.decoupled",
        "response_cache",
        "response_cache.enable",
    }
)


def unhonoured(proto: Proto) -> Iterator[Fault]:
    """A fault for each set field that is not in the table, or that holds no value of its enum."""
    return _walk(proto, "", "")


def _walk(message: Message, path: str, kind: str) -> Iterator[Fault]:
    """`path` says where `message` is (`input[0].`), `kind` what it is (`input.`)."""
    for field, value in message.ListFields():
        where, what = path + field.name, kind + field.name
        if what not in HONOURED:
            yield Fault(
                where,
                f"'{what}' is not honoured by the embedded engine: remove it, or serve this model "
                "with a Triton server",
            )
        elif field.enum_type is not None and value not in field.enum_type.values_by_number:
            yield Fault(where, f"{field.enum_type.name} has no value {value}")
        elif field.message_type is not None:
            is_map = field.message_type.GetOptions().map_entry
            for place, element in _entries(where, value) if is_map else _elements(where, value):
                yield from _walk(element, f"{place}.", f"{what}.value." if is_map else f"{what}.")


def _elements(path: str, value: Any) -> Iterator[tuple[str, Message]]:
    if isinstance(value, Message):
        yield path, value
    else:
        yield from ((f"{path}[{index}]", element) for index, element in enumerate(value))


def _entries(path: str, value: Mapping[Any, Any]) -> Iterator[tuple[str, Message]]:
    """The messages of a map; one of texts or numbers has none."""
    for key, element in sorted(value.items()):
        if isinstance(element, Message):
            yield f'{path}["{key}"].value', element
