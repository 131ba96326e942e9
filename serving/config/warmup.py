"""The samples of `model_warmup`: what they hold, and what Triton refuses in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tritonclient.grpc import model_config_pb2

from serving import dtypes
from serving.config.paths import leaves_folder
from serving.config.source import Fault
from serving.config.text import Proto
from serving.types import TensorSpec


class WarmupData(Enum):
    """Where the numbers of a sample's input come from, by the names of the configuration."""

    ZERO = "zero_data"
    RANDOM = "random_data"
    FILE = "input_data_file"


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a sample; `spec.dims` are its one row's, `file` is in the folder `warmup`."""

    spec: TensorSpec
    data: WarmupData
    file: str


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A batch of `rows` equal rows that the model runs `runs` times; `path` says where it is."""

    path: str
    name: str
    rows: int
    runs: int
    inputs: tuple[WarmupInput, ...]


def warmup_samples(proto: Proto) -> tuple[WarmupSample, ...]:
    """The samples of a configuration that `warmup_faults` finds nothing wrong with."""
    return tuple(
        WarmupSample(
            f"model_warmup[{index}]",
            sample.name,
            sample.batch_size,
            max(sample.count, 1),
            tuple(_input(name, given) for name, given in sorted(sample.inputs.items())),
        )
        for index, sample in enumerate(proto.model_warmup)
        if sample.batch_size  # Triton skips the others.
    )


def warmup_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with the samples in themselves."""
    for index, sample in enumerate(proto.model_warmup):
        for name, given in sorted(sample.inputs.items()):
            path = f'model_warmup[{index}].inputs["{name}"]'
            for message in _mistakes(name, given):
                yield Fault(path, message)


def _input(name: str, given: Proto) -> WarmupInput:
    datatype = dtypes.from_config(model_config_pb2.DataType.Name(given.data_type))
    if datatype is None:
        raise ValueError(f"the warmup input {name!r} has no datatype")
    return WarmupInput(
        TensorSpec(name, datatype, tuple(given.dims)),
        WarmupData(given.WhichOneof("input_data_type")),
        given.input_data_file,
    )


def _mistakes(name: str, given: Proto) -> Iterator[str]:
    if any(dim < 0 for dim in given.dims):
        yield (
            "warmup setting expects all variable-size dimensions are specified for input "
            f"'{name}', got dims {list(given.dims)}"
        )
    if given.WhichOneof("input_data_type") is None:
        yield (
            f"warmup setting expects input '{name}' to have input_data_type set: write "
            "zero_data: true, random_data: true or input_data_file"
        )
    if not given.data_type:
        yield f"warmup input '{name}' must specify 'data_type'"
    if leaves_folder(given.input_data_file):
        yield f"'{given.input_data_file}' leaves the model's folder warmup: name a file inside it"
