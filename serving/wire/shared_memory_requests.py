"""What clients ask of shared memory itself: to register a region, and which ones there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument
from serving.shared_memory import Region
from serving.wire import json_text
from serving.wire.fields import fault, unsigned


@dataclass(frozen=True, slots=True)
class Registration:
    """`byte_size` bytes from `offset` of the shared-memory object `key`, to be called `name`."""

    name: str
    key: str
    offset: int
    byte_size: int


def register_from_json(name: str, body: bytes) -> Registration:
    """The registration in the body of `POST …/region/NAME/register`; raises InvalidArgument."""
    document = json_text.loads(body)
    if type(document) is not dict:
        raise fault("request", "a JSON object", document)
    for member in ("key", "byte_size"):
        if member not in document:
            raise InvalidArgument(f"Shared memory register request has no '{member}' field")
    if type(document["key"]) is not str:
        raise fault("key", "a string", document["key"])
    return Registration(
        name,
        document["key"],
        unsigned(document.get("offset", 0), "offset"),
        unsigned(document["byte_size"], "byte_size"),
    )


def register_from_proto(message: Any) -> Registration:
    """The registration in a `SystemSharedMemoryRegisterRequest`; raises InvalidArgument."""
    if not message.name:
        raise InvalidArgument("'region name' is necessary to register system shared memory region")
    return Registration(message.name, message.key, message.offset, message.byte_size)


def status_to_json(regions: Iterable[Region]) -> bytes:
    """The answer to `GET …/status`."""
    return json_text.dumps(
        [
            {
                "name": region.name,
                "key": region.key,
                "offset": region.offset,
                "byte_size": region.byte_size,
            }
            for region in regions
        ]
    )


def status_to_proto(regions: Iterable[Region]) -> Any:
    """The `SystemSharedMemoryStatusResponse`."""
    message = service_pb2.SystemSharedMemoryStatusResponse()
    for region in regions:
        known = message.regions[region.name]
        known.name, known.key = region.name, region.key
        known.offset, known.byte_size = region.offset, region.byte_size
    return message
