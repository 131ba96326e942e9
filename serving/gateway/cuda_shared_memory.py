"""CUDA shared memory over REST and gRPC, as a Triton without GPUs has it: there is none."""

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from fastapi import APIRouter, Response
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument, NotFound
from serving.gateway.calls import Context, Method
from serving.gateway.routing import RegionName, json

_PATH: Final = "/cudasharedmemory"


def add_routes(router: APIRouter) -> None:
    """Add the extension's routes to those under `/v2`."""

    @router.get(f"{_PATH}/status", include_in_schema=False)
    async def status() -> Response:
        return json(b"[]")

    @router.get(f"{_PATH}/region/{{region}}/status", include_in_schema=False)
    async def region_status(region: RegionName) -> Response:
        _refuse_status(region)

    @router.post(f"{_PATH}/region/{{region}}/register", include_in_schema=False)
    async def register(region: RegionName) -> Response:
        _refuse_register(region)

    @router.post(f"{_PATH}/region/{{region}}/unregister", include_in_schema=False)
    @router.post(f"{_PATH}/unregister", include_in_schema=False)
    async def unregister() -> Response:
        return json(b"")


def methods() -> Mapping[str, Method]:
    """The extension's gRPC methods by name."""

    async def status(request: Any, _: Context) -> Message:
        if request.name:
            _refuse_status(request.name)
        return service_pb2.CudaSharedMemoryStatusResponse()

    async def register(request: Any, _: Context) -> Message:
        _refuse_register(request.name)

    async def unregister(_: Any, __: Context) -> Message:
        return service_pb2.CudaSharedMemoryUnregisterResponse()

    return {
        "CudaSharedMemoryStatus": status,
        "CudaSharedMemoryRegister": register,
        "CudaSharedMemoryUnregister": unregister,
    }


def _refuse_status(name: str) -> NoReturn:
    raise NotFound(f"Unable to find cuda shared memory region: '{name}'")


def _refuse_register(name: str) -> NoReturn:
    raise InvalidArgument(
        f"failed to register CUDA shared memory region: '{name}', GPUs not supported"
    )
