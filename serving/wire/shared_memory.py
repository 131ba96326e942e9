"""Tensors that live in shared memory: refused, for both protocols, in this one place."""

from collections.abc import Container

from serving.errors import Unsupported

_PARAMETERS = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


def refuse_shared_memory(parameters: Container[str], field: str) -> None:
    """Unsupported if the tensor at `field`, such as `inputs[0]`, asks for shared memory."""
    for name in _PARAMETERS:
        if name in parameters:
            raise Unsupported(
                f"{field}.parameters.{name}: this server does not offer shared memory; "
                "expected the tensor's data in the request or response itself"
            )
