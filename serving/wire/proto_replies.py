"""What a gRPC server replies beside inference, read into the core's types."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from serving.dtypes import from_wire
from serving.statistics import (
    DURATIONS,
    BatchStatistics,
    Duration,
    ResponseStatistics,
    VersionStatistics,
)
from serving.types import IndexEntry, ModelMetadata, ModelState, ServerMetadata, TensorSpec

_STATES: Final = {state.value: state for state in ModelState}


def server_metadata(message: Any) -> ServerMetadata:
    """What a `ServerMetadataResponse` says."""
    return ServerMetadata(message.name, message.version, tuple(message.extensions))


def model_metadata(metadata: Any, config: Any, version: str) -> ModelMetadata:
    """What a `ModelMetadataResponse` and an `inference.ModelConfig` say of a model's `version`.

    No passport travels over the protocol. Raises InvalidArgument for a datatype that is none.
    """
    optional = {tensor.name for tensor in config.input if tensor.optional}
    formats = {tensor.name: _format(tensor) for tensor in config.input if tensor.format}
    return ModelMetadata(
        name=metadata.name,
        version=version,
        versions=tuple(metadata.versions),
        platform=metadata.platform,
        max_batch_size=config.max_batch_size,
        inputs=tuple(_spec(tensor, tensor.name in optional) for tensor in metadata.inputs),
        outputs=tuple(map(_spec, metadata.outputs)),
        formats=formats,
    )


def repository_index(message: Any) -> Sequence[IndexEntry]:
    """What a `RepositoryIndexResponse` lists."""
    return [
        IndexEntry(
            entry.name,
            entry.version,
            _STATES.get(entry.state, ModelState.UNKNOWN) if entry.state else None,
            entry.reason,
        )
        for entry in message.models
    ]


def statistics(messages: Iterable[Any]) -> Sequence[VersionStatistics]:
    """What the `ModelStatisticsResponse` of several servers say together, a record a version."""
    versions: dict[tuple[str, str], VersionStatistics] = {}
    for message in messages:
        for counted in message.model_stats:
            key = (counted.name, counted.version)
            if key not in versions:
                versions[key] = VersionStatistics(*key)
            _add_version(versions[key], counted)
    return list(versions.values())


def _format(tensor: Any) -> str:
    name: str = type(tensor).Format.Name(tensor.format)
    return name


def _spec(tensor: Any, optional: bool = False) -> TensorSpec:
    return TensorSpec(tensor.name, from_wire(tensor.datatype), tuple(tensor.shape), optional)


def _add_version(version: VersionStatistics, counted: Any) -> None:
    version.last_inference = max(version.last_inference, counted.last_inference)
    version.inference_count += counted.inference_count
    version.execution_count += counted.execution_count
    _add_durations(version, counted.inference_stats, DURATIONS)
    for batch in counted.batch_stats:
        one = version.batches.setdefault(batch.batch_size, BatchStatistics())
        _add_durations(one, batch, BatchStatistics.__slots__)
    for place, response in counted.response_stats.items():
        found = version.responses.setdefault(place, ResponseStatistics())
        _add_durations(found, response, ResponseStatistics.__slots__)


def _add_durations(record: Any, counted: Any, names: Iterable[str]) -> None:
    for name in names:
        duration: Duration = getattr(record, name)
        duration.count += getattr(counted, name).count
        duration.ns += getattr(counted, name).ns
