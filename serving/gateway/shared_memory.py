"""System shared memory over REST and gRPC: status, register and unregister, where it is allowed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from serving.errors import NotFound, Unsupported
from serving.gateway import body, examples
from serving.gateway.calls import Context, Method
from serving.gateway.extensions import Extensions
from serving.gateway.routing import RegionName, json
from serving.shared_memory import Region, Regions
from serving.wire import shared_memory_requests as wire

_PATH: Final = "/systemsharedmemory"


def add_routes(router: APIRouter, extensions: Extensions, limit: int) -> None:
    """Add the extension's routes to those under `/v2`; `limit` is the largest body in bytes."""
    regions = extensions.regions
    options: dict[str, Any] = {
        "tags": ["shared memory"],
        "responses": examples.SHARED_MEMORY,
        "response_class": Response,
        "include_in_schema": regions is not None,
    }

    @router.get(f"{_PATH}/status", **options | {"responses": examples.REGIONS})
    async def system_shared_memory_status() -> Response:
        """Every region that clients registered."""
        return json(wire.status_to_json(_status(regions, "")))

    @router.get(f"{_PATH}/region/{{region}}/status", **options | {"responses": examples.REGIONS})
    async def system_shared_memory_region_status(region: RegionName) -> Response:
        """The region, in a list."""
        return json(wire.status_to_json(_status(regions, region)))

    @router.post(
        f"{_PATH}/region/{{region}}/register", openapi_extra=examples.REGISTER_REQUEST, **options
    )
    async def register_system_shared_memory(request: Request, region: RegionName) -> Response:
        """Let requests name bytes of one of this machine's shared-memory objects by the region."""
        content = await body.read(request, limit)
        await _register(extensions, wire.register_from_json(region, content))
        return Response()

    @router.post(f"{_PATH}/region/{{region}}/unregister", **options)
    async def unregister_system_shared_memory(region: RegionName) -> Response:
        """Forget the region; requests that use it already are not disturbed."""
        await extensions.change("unregister", region)
        return Response()

    @router.post(f"{_PATH}/unregister", **options)
    async def unregister_all_system_shared_memory() -> Response:
        """Forget every region."""
        await extensions.change("unregister", "")
        return Response()


def methods(extensions: Extensions) -> Mapping[str, Method]:
    """The extension's gRPC methods by name."""

    async def status(request: Any, _: Context) -> Message:
        message: Message = wire.status_to_proto(_status(extensions.regions, request.name))
        return message

    async def register(request: Any, _: Context) -> Message:
        await _register(extensions, wire.register_from_proto(request))
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def unregister(request: Any, _: Context) -> Message:
        await extensions.change("unregister", request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    return {
        "SystemSharedMemoryStatus": status,
        "SystemSharedMemoryRegister": register,
        "SystemSharedMemoryUnregister": unregister,
    }


# Clients begin and end with unregistering everything, also those that share nothing: where the
# extension is not allowed, only what would need it is refused.
def _status(regions: Regions | None, name: str) -> Sequence[Region]:
    found = [region for region in (regions.all() if regions else ()) if name in ("", region.name)]
    if name and not found:
        raise NotFound(f"Unable to find system shared memory region: '{name}'")
    return found


async def _register(extensions: Extensions, wanted: wire.Registration) -> None:
    if extensions.regions is None:
        raise Unsupported(
            "this server does not offer shared memory; start it with --allow-client-shm=true"
        )
    region = wanted.name, wanted.key, wanted.offset, wanted.byte_size
    await extensions.change("register", *region)
