"""What Triton refuses in a configuration before it has seen the graph; with the cure.

The sentences before the cure are Triton's own (core, `model_config_utils.cc`): clients and
operators search for them.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from tritonclient.grpc import model_config_pb2

from serving.config.ensemble import is_ensemble
from serving.config.paths import leaves_folder
from serving.config.placement import instance_faults
from serving.config.scheduling import priority_faults
from serving.config.sequence_rules import sequence_faults
from serving.config.source import Fault
from serving.config.text import Proto, did_you_mean
from serving.config.warmup import warmup_faults
from serving.devices import Gpus

_FORMATS_OF_IMAGES: Final = (
    model_config_pb2.ModelInput.FORMAT_NHWC,
    model_config_pb2.ModelInput.FORMAT_NCHW,
)


class KnownBackend(NamedTuple):
    """What Triton derives a backend from, and fills in for it."""

    platform: str
    filename: str


# In the order in which Triton looks for them.
KNOWN_BACKENDS: Final = {
    "tensorrt": KnownBackend("tensorrt_plan", "model.plan"),
    "onnxruntime": KnownBackend("onnxruntime_onnx", "model.onnx"),
    "openvino": KnownBackend("", "model.xml"),
    "pytorch": KnownBackend("pytorch_libtorch", "model.pt"),
    "python": KnownBackend("", "model.py"),
}


def general_faults(
    proto: Proto, folder: str, backends: Collection[str], gpus: Gpus
) -> Iterator[Fault]:
    """What is wrong with anything but the tensors, which may still be missing."""
    return chain(
        _name(proto, folder),
        _backend(proto, backends),
        _batching(proto),
        priority_faults(proto),
        sequence_faults(proto),
        _versions(proto),
        instance_faults(proto, gpus),
        _passive(proto),
        _files(proto),
        warmup_faults(proto),
        _response_cache(proto),
    )


def tensor_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with the inputs and outputs in themselves."""
    for kind, tensors in (("input", proto.input), ("output", proto.output)):
        names = [tensor.name for tensor in tensors]
        for index, tensor in enumerate(tensors):
            path = f"{kind}[{index}]"
            if tensor.name in names[:index]:
                yield Fault(f"{path}.name", f"model {kind} '{tensor.name}' is given more than once")
            yield from _tensor(tensor, path, f"model {kind}", proto.max_batch_size)
        if kind == "input":
            yield from _image_layouts(tensors)


def _name(proto: Proto, folder: str) -> Iterator[Fault]:
    if proto.name != folder:
        yield Fault(
            "name",
            f"unexpected directory name '{folder}' for model '{proto.name}', directory name must "
            f"equal model name: write '{folder}', or leave the name out",
        )


def _backend(proto: Proto, backends: Collection[str]) -> Iterator[Fault]:
    if is_ensemble(proto):
        return  # which has none
    expected = KNOWN_BACKENDS.get(proto.backend)
    if not proto.backend and not proto.platform:
        yield Fault(
            "backend",
            f"could not determine backend for model '{proto.name}' with no backend in model "
            "configuration: put model.onnx into the version's folder, or write "
            'backend: "onnxruntime" and default_model_filename',
        )
    elif not proto.backend:
        platforms = [known.platform for known in KNOWN_BACKENDS.values() if known.platform]
        hint = did_you_mean(proto.platform, platforms)
        yield Fault("platform", f"unexpected platform type '{proto.platform}'{hint}")
    elif expected and proto.platform != expected.platform:
        yield Fault(
            "platform",
            f"unexpected 'platform' and 'backend' pair, got:{proto.platform}, {proto.backend}: "
            "write the backend alone",
        )
    elif proto.backend not in backends:
        hint = did_you_mean(proto.backend, backends)
        yield Fault("backend", f"the embedded engine has no backend '{proto.backend}'{hint}")


def _batching(proto: Proto) -> Iterator[Fault]:
    limit = proto.max_batch_size
    if limit < 0:
        yield Fault(
            "max_batch_size",
            f"'max_batch_size' must be non-negative value, got {limit}: write 0 for a model that "
            "does not batch",
        )
    for index, size in enumerate(proto.dynamic_batching.preferred_batch_size):
        path = f"dynamic_batching.preferred_batch_size[{index}]"
        if size <= 0:
            yield Fault(path, f"dynamic batching preferred size must be positive, got {size}")
        elif size > limit:
            yield Fault(
                path,
                f"dynamic batching preferred size must be <= max batch size, got {size} with "
                f"max_batch_size: {limit}: raise the one or lower the other",
            )


def _versions(proto: Proto) -> Iterator[Fault]:
    policy = proto.version_policy
    if policy.WhichOneof("policy_choice") == "latest" and not policy.latest.num_versions:
        yield Fault(
            "version_policy.latest.num_versions",
            "at least one version must be available under the version policy: num_versions is 0, "
            "write 1 or more",
        )


def _passive(proto: Proto) -> Iterator[Fault]:
    groups = proto.instance_group
    if groups and all(group.passive for group in groups):
        yield Fault(
            "instance_group[0].passive",
            "every instance group is passive, so that no instance would answer: leave passive out "
            "of one",
        )


def _files(proto: Proto) -> Iterator[Fault]:
    if leaves_folder(proto.default_model_filename):
        yield Fault(
            "default_model_filename",
            f"'{proto.default_model_filename}' leaves the version's folder: name a file inside it",
        )
    for index, output in enumerate(proto.output):
        if leaves_folder(output.label_filename):
            yield Fault(
                f"output[{index}].label_filename",
                f"'{output.label_filename}' leaves the model's folder: name a file inside it",
            )


def _response_cache(proto: Proto) -> Iterator[Fault]:
    if not proto.response_cache.enable:
        return
    for is_so, reason in (
        (proto.HasField("sequence_batching"), "sequence batching scheduler"),
        (proto.model_transaction_policy.decoupled, "'decoupled' transaction policy"),
    ):
        if is_so:
            yield Fault(
                "response_cache.enable",
                f"Response Cache does not currently support model {proto.name} with {reason}. "
                "Please disable the response cache.",
            )


def _tensor(tensor: Proto, path: str, kind: str, max_batch_size: int) -> Iterator[Fault]:
    named = f"{kind} '{tensor.name}'"
    if not tensor.name:
        yield Fault(path, f"{kind} must specify 'name'")
    if not tensor.data_type:
        yield Fault(path, f"{named} must specify 'data_type'")
    if not tensor.dims:
        yield Fault(
            path,
            f"{named} must specify 'dims': write dims: [ 1 ] for one element per row, with "
            "reshape: { shape: [ ] } where the graph gives it no dimension",
        )
    yield from _dims(tensor.dims, f"{path}.dims", f"{named} dimension")
    if tensor.HasField("reshape"):
        shape = tensor.reshape.shape
        yield from _dims(shape, f"{path}.reshape.shape", f"{named} reshape dimensions")
        if not shape and max_batch_size == 0:
            yield Fault(
                f"{path}.reshape",
                f"{named} cannot have empty reshape for non-batching model as scalar tensors are "
                "not supported: leave the reshape out",
            )
        elif reason := _reshape_fault(tensor.dims, shape):
            yield Fault(f"{path}.reshape", f"{named} {reason}")


def _dims(dims: Iterable[int], path: str, what: str) -> Iterator[Fault]:
    for index, dim in enumerate(dims):
        if dim < 1 and dim != -1:
            yield Fault(
                f"{path}[{index}]",
                f"{what} must be integer >= 1, or -1 to indicate a variable-size dimension, "
                f"got {dim}",
            )


def _reshape_fault(dims: Iterable[int], shape: Iterable[int]) -> str:
    """Why a tensor of `dims` cannot be one of `shape`: its fixed parts must match in order."""
    given, wanted = _fixed_parts(dims), _fixed_parts(shape)
    if len(given) != len(wanted):
        return "has different number of variable-size dimensions for dims and reshape"
    return "has different size for dims and reshape" if given != wanted else ""


def _fixed_parts(dims: Iterable[int]) -> list[int]:
    """Element counts between the variable dimensions: [2, 4, -1, 6] gives [8, 6]."""
    parts: list[list[int]] = [[]]
    for dim in dims:
        if dim == -1:
            parts.append([])
        else:
            parts[-1].append(dim)
    return [math.prod(part) for part in parts]


def _image_layouts(tensors: Iterable[Proto]) -> Iterator[Fault]:
    for index, tensor in enumerate(tensors):
        if tensor.format in _FORMATS_OF_IMAGES and len(tensor.dims) != 3:
            yield Fault(
                f"input[{index}].format",
                f"model input NHWC/NCHW require 3 dims, '{tensor.name}' has {len(tensor.dims)}: "
                "give 3 without the batch dimension, or leave the format out",
            )
