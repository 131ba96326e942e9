"""Runs a model before it is ready, so that no client pays for the first time."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from serving.config import (
    ModelConfig,
    WarmupData,
    WarmupInput,
    WarmupSample,
    likely_batch_sizes,
)
from serving.dtypes import Datatype
from serving.engine.backends.base import Session, StreamingSession
from serving.engine.raw_data import read_array
from serving.engine.repository import ModelFolder
from serving.engine.scheduling import execution
from serving.engine.validation import Validator
from serving.errors import LoadFailed, ServingError
from serving.types import Array, InferenceRequest, Tensor, TensorSpec, shown

logger = logging.getLogger("penstock.load")

FOLDER: Final = "warmup"

_BF16_ONE: Final = 0x3F80

# A batch size is warm once it ran twice: the first run allocates, the second settles.
_RUNS: Final = 2
# Larger batches than one of so many nanoseconds, or so many bytes of inputs, gain nothing by having
# run before; those of thousands of rows would take minutes, and all memory.
_LONG: Final = 1_000_000_000
_LARGE: Final = 256 * 1024 * 1024


def warm_up(session: Session, config: ModelConfig, folder: ModelFolder) -> dict[int, int]:
    """Run the samples of `model_warmup`, or else zeros at every batch size that is likely, up to
    the first that takes long or is large.

    Returns how many nanoseconds the last run of so many rows took. LoadFailed if a sample fails,
    as whoever wrote it down wants to know; zeros that a model refuses, or that find no memory, do
    not make it unfit for real inputs.
    """
    samples = config.warmup_samples
    if not samples:
        return _run_zeros(session, config, folder.path)
    return {sample.rows or 1: _run_sample(session, config, folder, sample) for sample in samples}


def warm_sizes(config: ModelConfig) -> list[int]:
    """The batch sizes to warm: all that are likely."""
    return likely_batch_sizes(config.proto)


def zeros(config: ModelConfig, rows: int) -> dict[str, Array]:
    """Inputs of `rows` rows that fit the graph; variable dimensions are 1, as are lengths of which
    a 0 would end the process."""
    return _inputs(config, rows, _nothing)


def telling_inputs(
    config: ModelConfig, folder: ModelFolder
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Inputs by which two sessions can be told apart, each with how many rows it has.

    The samples of `model_warmup`, or else at every batch size that is likely what a model can take
    for real: floats from 0 to 1, and of indices, masks and lengths 0 or 1.
    """
    samples = config.warmup_samples
    for sample in samples:
        yield sample.rows or 1, _sample_inputs(config, folder, sample)
    if not samples:
        for rows in warm_sizes(config):
            yield rows, _inputs(config, rows, _plausible)


def _inputs(
    config: ModelConfig, rows: int, fill: Callable[[Datatype, tuple[int, ...]], Array]
) -> dict[str, Array]:
    sent = []
    for spec in config.inputs:
        if not spec.optional:
            array = fill(spec.datatype, _shape(config, spec, rows))
            is_length = spec.name in config.deadly.lengths
            sent.append(
                Tensor(spec.name, spec.datatype, np.ones_like(array) if is_length else array)
            )
    return _hidden_zeros(config, rows) | execution(config).feed([sent])


def _hidden_zeros(config: ModelConfig, rows: int) -> dict[str, Array]:
    return {
        spec.name: _nothing(spec.datatype, _shape(config, spec, rows))
        for spec in config.hidden_inputs
    }


def _shape(config: ModelConfig, spec: TensorSpec, rows: int) -> tuple[int, ...]:
    dims = tuple(1 if dim == -1 else dim for dim in spec.dims)
    return (rows, *dims) if config.max_batch_size else dims


def _run_zeros(session: Session, config: ModelConfig, path: Path) -> dict[int, int]:
    names = [spec.name for spec in config.outputs]
    times: dict[int, int] = {}
    for rows in warm_sizes(config):
        try:
            inputs = zeros(config, rows)
            for _ in range(_RUNS):
                times[rows] = _execute(session, inputs, names, config)
        except (ServingError, MemoryError) as error:
            logger.warning("%s: warm-up with %d rows of zeros failed: %s", path, rows, error)
            break
        if times[rows] > _LONG or sum(array.nbytes for array in inputs.values()) > _LARGE:
            break
    return times


def _run_sample(
    session: Session, config: ModelConfig, folder: ModelFolder, sample: WarmupSample
) -> int:
    names = [spec.name for spec in config.outputs]
    took = 0
    try:
        inputs = _sample_inputs(config, folder, sample)
        for _ in range(sample.runs):
            took = _execute(session, inputs, names, config)
    except ServingError as error:
        raise LoadFailed(
            f"{config.source.at(sample.path)}: failed to run warmup sample '{sample.name}': "
            f"{error.message}"
        ) from error
    return took


def _execute(
    session: Session, inputs: Mapping[str, Array], names: Sequence[str], config: ModelConfig
) -> int:
    """Run as requests will be run: of a decoupled model, up to its last response.

    Returns how many nanoseconds it took.
    """
    began = time.monotonic_ns()
    if config.is_decoupled and isinstance(session, StreamingSession):
        deque(session.stream(inputs, names), maxlen=0)
    else:
        session.run(inputs, names)
    return time.monotonic_ns() - began


def _sample_inputs(
    config: ModelConfig, folder: ModelFolder, sample: WarmupSample
) -> dict[str, Array]:
    """What the graph gets of a sample, which has to be a valid request for the model."""
    limit = max(1, config.max_batch_size)
    if sample.rows > limit:
        raise LoadFailed(f"batch size {sample.rows} for '{config.name}', max allowed is {limit}")
    rows = sample.rows if config.max_batch_size else 0
    tensors = tuple(_sample_tensor(given, folder, rows) for given in sample.inputs)
    # What clients do not send is zeros unless the sample says otherwise.
    inputs = _hidden_zeros(config, rows or 1)
    hidden = inputs.keys()
    inputs |= {tensor.name: tensor.array for tensor in tensors if tensor.name in hidden}
    sent = tuple(tensor for tensor in tensors if tensor.name not in hidden)
    admitted = Validator(config).admit(InferenceRequest(config.name, sent))
    return inputs | execution(config).feed([admitted.inputs])


def _sample_tensor(given: WarmupInput, folder: ModelFolder, rows: int) -> Tensor:
    """An input of a sample, its one row as often as there are `rows`; 0: there is no batch."""
    try:
        array = _sample_array(given, folder)
        batch = np.repeat(array[None], rows, axis=0) if rows else array
    except (MemoryError, ValueError, OverflowError) as error:  # or more than can be addressed
        raise LoadFailed(
            f"input '{given.spec.name}' of the shape {shown(given.spec.dims)} cannot be held in "
            f"memory: {error}"
        ) from error
    return Tensor(given.spec.name, given.spec.datatype, batch)


def _sample_array(given: WarmupInput, folder: ModelFolder) -> Array:
    datatype, shape = given.spec.datatype, given.spec.dims
    if given.data is WarmupData.FILE:
        data = folder.read(FOLDER, given.file)
        return read_array(data, datatype, shape, str(folder.path / FOLDER / given.file))
    if given.data is WarmupData.RANDOM and datatype is not Datatype.BYTES:
        return _noise(datatype, shape)
    return _nothing(datatype, shape)


def _nothing(datatype: Datatype, shape: tuple[int, ...]) -> Array:
    return np.full(shape, datatype.nothing, dtype=datatype.numpy)


def _plausible(datatype: Datatype, shape: tuple[int, ...]) -> Array:
    if datatype is Datatype.BYTES:
        return _nothing(datatype, shape)
    if datatype.is_float or datatype is Datatype.BOOL:
        return _noise(datatype, shape)
    one = _BF16_ONE if datatype is Datatype.BF16 else 1
    return (np.random.default_rng().integers(0, 2, shape) * one).astype(datatype.numpy)


def _noise(datatype: Datatype, shape: tuple[int, ...]) -> Array:
    """Numbers from 0 to 1 if these are floats, any bits otherwise."""
    random = np.random.default_rng()
    if datatype.is_float:
        return random.random(shape).astype(datatype.numpy)
    if datatype is Datatype.BOOL:
        return random.random(shape) < 0.5
    bits = random.bytes(math.prod(shape) * datatype.itemsize)
    return np.frombuffer(bits, datatype.numpy).reshape(shape)
