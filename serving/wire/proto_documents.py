"""What gRPC answers beside inference: metadata, configuration, statistics and index."""

from collections.abc import Iterable, Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from serving.statistics import Duration, VersionStatistics
from serving.types import IndexEntry, ModelMetadata, ServerMetadata, TensorSpec


def server_metadata(metadata: ServerMetadata) -> Any:
    """The `ServerMetadataResponse`."""
    return service_pb2.ServerMetadataResponse(
        name=metadata.name, version=metadata.version, extensions=metadata.extensions
    )


def model_metadata(metadata: ModelMetadata) -> Any:
    """The `ModelMetadataResponse`."""
    return service_pb2.ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=map(_tensor, metadata.inputs),
        outputs=map(_tensor, metadata.outputs),
    )


def model_config(config: Any) -> Any:
    """The `ModelConfigResponse` around an `inference.ModelConfig` message."""
    return service_pb2.ModelConfigResponse(config=config)


def statistics(versions: Iterable[VersionStatistics]) -> Any:
    """The `ModelStatisticsResponse` of some model versions."""
    return service_pb2.ModelStatisticsResponse(model_stats=map(_version, versions))


def repository_index(entries: Sequence[IndexEntry]) -> Any:
    """The `RepositoryIndexResponse`; a model never loaded is a name only."""
    return service_pb2.RepositoryIndexResponse(models=map(_index_entry, entries))


def _tensor(spec: TensorSpec) -> Any:
    return service_pb2.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype.wire, shape=spec.dims
    )


def _index_entry(entry: IndexEntry) -> Any:
    return service_pb2.RepositoryIndexResponse.ModelIndex(
        name=entry.name,
        version=entry.version,
        state=entry.state.value if entry.state else "",
        reason=entry.reason,
    )


def _version(version: VersionStatistics) -> Any:
    return service_pb2.ModelStatistics(
        name=version.model,
        version=version.version,
        last_inference=version.last_inference,
        inference_count=version.inference_count,
        execution_count=version.execution_count,
        inference_stats=service_pb2.InferStatistics(
            success=_duration(version.success),
            fail=_duration(version.fail),
            queue=_duration(version.queue),
            compute_input=_duration(version.compute_input),
            compute_infer=_duration(version.compute_infer),
            compute_output=_duration(version.compute_output),
            cache_hit=_duration(version.cache_hit),
            cache_miss=_duration(version.cache_miss),
        ),
        batch_stats=(
            service_pb2.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for rows, batch in sorted(version.batches.items())
        ),
        response_stats={
            place: service_pb2.InferResponseStatistics(
                compute_infer=_duration(response.compute_infer),
                compute_output=_duration(response.compute_output),
                success=_duration(response.success),
                fail=_duration(response.fail),
                empty_response=_duration(response.empty_response),
                cancel=_duration(response.cancel),
            )
            for place, response in version.responses.items()
        },
    )


def _duration(duration: Duration) -> Any:
    return service_pb2.StatisticDuration(count=duration.count, ns=duration.ns)
