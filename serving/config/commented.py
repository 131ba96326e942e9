"""A config.pbtxt to start from: all that a graph says, and why, and the options worth knowing.

Prose stands behind "# ", an option that is off behind "#" alone, ready to be uncommented.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf import text_encoding
from tritonclient.grpc import model_config_pb2

from serving.config.complete import complete, fill_tensors, resolve, unbatched
from serving.config.model import ModelConfig
from serving.config.source import Source
from serving.types import Signature, TensorSpec

_WIDTH: Final = 100
# An exporter may list every weight among the inputs; that many are told of together.
_MAX_DEFAULTS: Final = 8
_CHANNELS: Final = (1, 3, 4)

_QUEUE: Final = """\
  # Run a batch as soon as it has one of these sizes, rather than wait for company.
  #preferred_batch_size: [ {preferred} ]
  # How long a request may wait for company; by default it runs as soon as an instance is free.
  #max_queue_delay_microseconds: 100
  # How many requests may wait, and how long; timeout_action: DELAY answers late ones last.
  #default_queue_policy {{ max_queue_size: 256 default_timeout_microseconds: 1000000 }}
  # Levels of priority, 1 before 2, among which a request chooses by its parameter "priority".
  #priority_levels: 2 default_priority_level: 2
"""
_OPTIONS: Final = """
# Executions at the same time, each with threads of its own. KIND_AUTO takes a GPU where there is
# one, else the CPU.
instance_group { count: 1 kind: KIND_AUTO }

# The versions to serve, by default the newest. One of these:
#version_policy { latest { num_versions: 2 } }
#version_policy { specific { versions: [ 1, 3 ] } }
#version_policy { all { } }

# Answer what was asked before out of the server's response cache, where it was given one.
#response_cache { enable: true }

# Threads of one execution on the CPU; by default one a processor of the container, less one, which
# the instances share.
#parameters { key: "intra_op_thread_count" value { string_value: "4" } }
# Run branches of the graph side by side (1), in so many threads; by default one after another.
#parameters { key: "execution_mode" value { string_value: "1" } }
#parameters { key: "inter_op_thread_count" value { string_value: "2" } }
# Refuse requests at once that would not be answered within so many milliseconds. Penstock's own.
#parameters { key: "latency_objective_ms" value { string_value: "50" } }
# Optimise the graph less than fully: -1 basically, 1 all but its memory layout, 2 not at all.
#optimization { graph { level: 1 } }
"""
_SPLIT: Final = """\
# Run a request of more rows as several and join the answers, rather than refuse it. Penstock's own.
#parameters { key: "split_large_requests" value { string_value: "true" } }
"""
_LABELS: Final = '  #label_filename: "labels.txt"'
_FINITE: Final = """\
# Refuse requests that hold NaN or infinity. Penstock's own: Triton ignores it.
#parameters { key: "reject_non_finite_inputs" value { string_value: "true" } }
"""


def draft(
    name: str,
    filename: str,
    signature: Signature,
    source: Source,
    max_batch_size: int | None = None,
) -> ModelConfig:
    """The complete configuration of a model `name` from its graph alone.

    `max_batch_size` 0 is one that does not batch; None leaves it to the graph. Raises LoadFailed.
    """
    proto = model_config_pb2.ModelConfig(
        name=name,
        backend="onnxruntime",
        default_model_filename=filename,
        max_batch_size=max_batch_size or 0,
    )
    resolved = resolve(proto, name, source)
    if max_batch_size == 0:
        # What is stated is not inferred, so that the graph's first dimension stays what it is.
        fill_tensors(resolved, signature)
    return complete(resolved, signature, source)


def commented(
    config: ModelConfig, signature: Signature, symbols: Mapping[str, Sequence[str]]
) -> str:
    """The text for `config`, which is complete from a graph of `signature`.

    `symbols` has the graph's name for each dimension of each tensor, "" for those without one.
    """
    lines = [
        *_head(config),
        *_prose(_batching(config.max_batch_size, signature, symbols)),
        f"max_batch_size: {config.max_batch_size}",
    ]
    for tensor in config.proto.input:
        lines += ["", *_tensor("input", tensor, config.max_batch_size, symbols[tensor.name])]
    lines += _defaults(signature, config.max_batch_size)
    for tensor in config.proto.output:
        lines += ["", *_tensor("output", tensor, config.max_batch_size, symbols[tensor.name])]
    if config.proto.HasField("dynamic_batching"):
        lines += _dynamic_batching(config.max_batch_size)
    lines += _OPTIONS.splitlines()
    if any(spec.datatype.is_float for spec in config.inputs):
        lines += _FINITE.splitlines()
    return "\n".join([*lines, "", *_warmup(config)]) + "\n"


def _head(config: ModelConfig) -> Iterator[str]:
    name, file = _quoted(config.name), _quoted(config.default_model_filename)
    yield from _prose(
        f"Made from the graph of {file} by penstock config; yours to edit. A line that begins "
        'with "#" and no space is an option that is off: take the "#" away to set it.'
    )
    yield ""
    yield f"name: {name}  # its folder's"
    yield f"backend: {_quoted(config.backend)}"
    yield f"default_model_filename: {file}  # in each version's folder"
    yield ""


def _batching(
    max_batch_size: int, signature: Signature, symbols: Mapping[str, Sequence[str]]
) -> str:
    """Why a model batches, or why it does not."""
    fixed = unbatched(signature)
    if fixed:
        named = ", ".join(f"{_quoted(spec.name)} is {list(spec.dims)}" for spec in fixed[:3])
        more = ", …" if len(fixed) > 3 else ""
        return (
            "Rows that one execution takes. 0: the model does not batch, as not every input and "
            f"output begins with a dimension of any size: {named}{more}. Export it with a dynamic "
            "batch dimension to have requests merged. The dims are whole shapes."
        )
    specs = [spec for spec in (*signature.inputs, *signature.outputs) if not spec.optional]
    names = dict.fromkeys(symbols[spec.name][0] for spec in specs)
    called = ", ".join(_quoted(name) for name in names if name)
    begin = f"Every input and output begins with a dimension of any size{called and f' ({called})'}"
    if not max_batch_size:
        return (
            f"Rows that one execution takes. 0: requests are not merged, and the dims are whole "
            f"shapes. {begin}; if that is the batch, a size above 0 merges requests along it."
        )
    doubt = "; it has more than one name, so see that it is the batch" if len(names) > 1 else ""
    return (
        f"Rows that one execution takes. {begin}, which is taken for the batch: requests carry it, "
        f"the dims leave it out{doubt}. Larger batches cost less a row and answer later."
    )


def _tensor(kind: str, tensor: Any, max_batch_size: int, symbols: Sequence[str]) -> Iterator[str]:
    dims = f"[ {', '.join(map(str, tensor.dims))} ]"
    yield f"{kind} {{"
    yield f"  name: {_quoted(tensor.name)}"
    yield f"  data_type: {model_config_pb2.DataType.Name(tensor.data_type)}"
    yield f"  dims: {dims}{_variable(tensor, symbols[1 if max_batch_size else 0 :])}"
    if tensor.HasField("reshape"):
        yield "  reshape { shape: [ ] }  # one value a row, which clients see as one element"
    if kind == "output":
        yield "  # Names of the classes, one a line, for the classification extension."
        label_file = tensor.label_filename
        yield f"  label_filename: {_quoted(label_file)}" if label_file else _LABELS
    elif layout := _layout(tensor.dims):
        yield "  # An image, whose layout clients may want to know."
        yield f"  #format: {layout}"
    yield "}"


def _variable(tensor: Any, symbols: Sequence[str]) -> str:
    """What each -1 stands for."""
    if -1 not in tensor.dims:
        return ""
    names = [
        _quoted(symbol) if symbol else "unnamed"
        for dim, symbol in zip(tensor.dims, symbols, strict=True)
        if dim == -1
    ]
    return f"  # -1 is any size: {', '.join(names)}"


def _layout(dims: Sequence[int]) -> str:
    if len(dims) != 3:
        return ""
    if dims[0] in _CHANNELS:
        return "FORMAT_NCHW"
    return "FORMAT_NHWC" if dims[2] in _CHANNELS else ""


def _defaults(signature: Signature, max_batch_size: int) -> Iterator[str]:
    """The inputs that the graph has a value for, which clients may send only if it is said."""
    found = [spec for spec in signature.inputs if spec.optional]
    if not found:
        return
    yield ""
    if max_batch_size or len(found) > _MAX_DEFAULTS:
        named = ", ".join(_quoted(spec.name) for spec in found[:_MAX_DEFAULTS])
        more = f" and {len(found) - _MAX_DEFAULTS} more" if len(found) > _MAX_DEFAULTS else ""
        reason = "; a model that batches cannot offer them" if max_batch_size else ""
        yield from _prose(f"Inputs that keep the graph's own values: {named}{more}{reason}.")
        return
    yield from _prose("Inputs that have a value in the graph, which clients may then replace.")
    for spec in found:
        yield f"#input {{ {_optional(spec)} }}"


def _optional(spec: TensorSpec) -> str:
    dims = ", ".join(map(str, spec.dims)) or "1"
    kind = spec.datatype.config
    return f"name: {_quoted(spec.name)} data_type: {kind} dims: [ {dims} ] optional: true"


def _dynamic_batching(max_batch_size: int) -> Iterator[str]:
    sizes = sorted({max(1, max_batch_size // 2), max_batch_size})
    yield ""
    yield "# Requests that wait at the same time run as one batch."
    yield "dynamic_batching {"
    yield from _QUEUE.format(preferred=", ".join(map(str, sizes))).splitlines()
    yield "}"
    yield from _SPLIT.splitlines()


def _warmup(config: ModelConfig) -> Iterator[str]:
    inputs = " ".join(
        f"inputs {{ key: {_quoted(spec.name)} value {{ data_type: {spec.datatype.config} "
        f"dims: [ {', '.join(str(max(dim, 1)) for dim in spec.dims)} ] zero_data: true }} }}"
        for spec in config.inputs
    )
    yield from _prose(
        "What to run before a version is ready. Where nothing is said, Penstock runs zeros at "
        "every likely batch size and Triton nothing. random_data and input_data_file give other "
        "values."
    )
    yield f'#model_warmup {{ name: "zeros" batch_size: 1 {inputs} }}'


def _prose(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2)]


def _quoted(text: str) -> str:
    return f'"{text_encoding.CEscape(text, as_utf8=True)}"'
