"""Which group a call belongs to, by its path over HTTP or its name over gRPC."""

from collections.abc import Mapping
from typing import Final

from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2

from serving.restrictions import Group

_OF_SERVER: Final[Mapping[str, Group]] = {
    "health": Group.HEALTH,
    "repository": Group.MODEL_REPOSITORY,
    "systemsharedmemory": Group.SHARED_MEMORY,
    "cudasharedmemory": Group.SHARED_MEMORY,
    "logging": Group.LOGGING,
    "trace": Group.TRACE,
}
_OF_MODEL: Final[Mapping[str, Group]] = {
    "": Group.METADATA,
    "passport": Group.METADATA,
    "ready": Group.HEALTH,
    "config": Group.MODEL_CONFIG,
    "stats": Group.STATISTICS,
    "infer": Group.INFERENCE,
    "generate": Group.INFERENCE,
    "generate_stream": Group.INFERENCE,
    "trace": Group.TRACE,
}
_OTHERS: Final[Mapping[str, Group]] = {
    "predict": Group.INFERENCE,
    "docs": Group.DOCUMENTATION,
    "openapi.json": Group.DOCUMENTATION,
    "static-offline-docs": Group.DOCUMENTATION,
}

_SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_METHODS: Final[Mapping[str, Group]] = {
    "ServerLive": Group.HEALTH,
    "ServerReady": Group.HEALTH,
    "ModelReady": Group.HEALTH,
    "ServerMetadata": Group.METADATA,
    "ModelMetadata": Group.METADATA,
    "ModelConfig": Group.MODEL_CONFIG,
    "ModelStatistics": Group.STATISTICS,
    "ModelInfer": Group.INFERENCE,
    "ModelStreamInfer": Group.INFERENCE,
    "RepositoryIndex": Group.MODEL_REPOSITORY,
    "RepositoryModelLoad": Group.MODEL_REPOSITORY,
    "RepositoryModelUnload": Group.MODEL_REPOSITORY,
    "SystemSharedMemoryStatus": Group.SHARED_MEMORY,
    "SystemSharedMemoryRegister": Group.SHARED_MEMORY,
    "SystemSharedMemoryUnregister": Group.SHARED_MEMORY,
    "CudaSharedMemoryStatus": Group.SHARED_MEMORY,
    "CudaSharedMemoryRegister": Group.SHARED_MEMORY,
    "CudaSharedMemoryUnregister": Group.SHARED_MEMORY,
    "TraceSetting": Group.TRACE,
    "LogSettings": Group.LOGGING,
}
_SERVICES: Final[Mapping[str, Group]] = {
    health.SERVICE_NAME: Group.HEALTH,
    reflection.SERVICE_NAME: Group.DOCUMENTATION,
}


def of_path(path: str) -> Group | None:
    """The group of an HTTP path, unquoted and without a query; None for a path that is none."""
    match path.split("/"):
        case ["", "v2"]:
            return Group.METADATA
        case ["", ""]:
            return Group.DOCUMENTATION
        case ["", "v2", "models", "stats"]:
            return Group.STATISTICS
        case ["", "v2", "models", _, "versions", _, *rest] | ["", "v2", "models", _, *rest]:
            return _OF_MODEL.get(rest[0] if rest else "")
        case ["", "v2", part, *_]:
            return _OF_SERVER.get(part)
        case ["", part, *_]:
            return _OTHERS.get(part)
    return None


def of_method(method: str) -> Group | None:
    """The group of a gRPC method, as `/SERVICE/METHOD`; None for one that there is not."""
    service, _, name = method.removeprefix("/").partition("/")
    return _METHODS.get(name) if service == _SERVICE else _SERVICES.get(service)
