"""Tensors in shared memory: where their parameters say that they are, and how they get there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, RegionTooSmall, Unsupported
from serving.shared_memory import Region, Regions
from serving.types import Array, Tensor
from serving.wire import raw_tensors
from serving.wire.fields import TensorHeader, fault, size_mismatch, unsigned

_REGION: Final = "shared_memory_region"
_BYTE_SIZE: Final = "shared_memory_byte_size"
_OFFSET: Final = "shared_memory_offset"


@dataclass(frozen=True, slots=True)
class Place:
    """The bytes that a client set aside for a tensor."""

    region: Region
    offset: int
    byte_size: int

    def read(self) -> memoryview:
        """As `Region.read`."""
        return self.region.read(self.offset, self.byte_size)


# The outputs that shall go to shared memory, by their names.
Places: TypeAlias = Mapping[str, Place]


def place(
    parameters: Mapping[str, Any], tensor: object, field: str, regions: Regions | None
) -> Place | None:
    """Where the tensor at `field`, such as `inputs[0]`, lies; None for one in the message itself.

    Raises InvalidArgument for parameters that contradict each other or the region, NotFound for an
    unknown region, Unsupported where there are no `regions` at all.
    """
    if _REGION not in parameters:
        for name in (_BYTE_SIZE, _OFFSET):
            if name in parameters:
                raise InvalidArgument(
                    f"'{name}' can not be specified without '{_REGION}' parameter for tensor "
                    f"'{tensor}'"
                )
        return None
    if regions is None:
        raise Unsupported(
            f"{field}.parameters.{_REGION}: this server does not offer shared memory; "
            "expected the tensor's data in the request or response itself"
        )
    if _BYTE_SIZE not in parameters:
        raise InvalidArgument(
            f"'{_BYTE_SIZE}' must be specified along with '{_REGION}' parameter for tensor "
            f"'{tensor}'"
        )
    name = parameters[_REGION]
    if type(name) is not str:
        raise fault(f"{field}.parameters.{_REGION}", "a string", name)
    region = regions.find(name)
    offset = unsigned(parameters.get(_OFFSET, 0), f"{field}.parameters.{_OFFSET}")
    byte_size = unsigned(parameters[_BYTE_SIZE], f"{field}.parameters.{_BYTE_SIZE}")
    region.check(offset, byte_size)
    return Place(region, offset, byte_size)


def decode(place: Place, header: TensorHeader, model: str, identifier: str = "") -> Array:
    """The array of `header` that lies at `place`, which is not even read if its size is another.

    Raises as `raw_tensors.decode` and `Region.read` do.
    """
    size = header.elements * header.datatype.itemsize
    if size != place.byte_size and header.datatype is not Datatype.BYTES:
        raise size_mismatch(header, model, identifier, size, place.byte_size)
    return raw_tensors.decode(place.read(), header, model, identifier)


def deliver(tensors: Sequence[Tensor], places: Places) -> None:
    """Write every tensor that has a place there; none of them if one is too large for its place."""
    writes = []
    for tensor in tensors:
        target = places.get(tensor.name)
        if target is None:
            continue
        data = memoryview(raw_tensors.encode(tensor))
        if len(data) > target.byte_size:
            raise RegionTooSmall(
                f"shared memory size specified with the request for output '{tensor.name}' "
                f"({target.byte_size} bytes) should be at least {len(data)} bytes to hold the "
                "results"
            )
        writes.append((target, data))
    for target, data in writes:
        target.region.write(target.offset, data)
