"""The four official clients behind one way of calling them, so that one test runs with each."""

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import np_to_triton_dtype

from serving.types import Array
from tests.e2e.server import Server

CLIENTS: Final[dict[str, ModuleType]] = {
    "http": tritonclient.http,
    "grpc": tritonclient.grpc,
    "http.aio": tritonclient.http.aio,
    "grpc.aio": tritonclient.grpc.aio,
}


@dataclass(frozen=True, slots=True)
class Client:
    """One official client; documents come as dictionaries, with integers as integers."""

    name: str
    connection: Any

    @property
    def is_grpc(self) -> bool:
        return self.name.startswith("grpc")

    @property
    def module(self) -> ModuleType:
        """Where its inputs and outputs come from, which the aio clients share."""
        return CLIENTS[self.name.partition(".")[0]]

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """The result of one of the client's methods."""
        result = getattr(self.connection, method)(*args, **options)
        result = await result if inspect.isawaitable(result) else result
        if hasattr(result, "DESCRIPTOR"):
            return _numbers(
                MessageToDict(
                    result,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=True,
                )
            )
        return result

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] = (),
        classes: int = 0,
        **options: Any,
    ) -> Any:
        """The client's result for numpy inputs, which travel as binary data."""
        wanted = [self.module.InferRequestedOutput(name, class_count=classes) for name in outputs]
        return await self.call(
            "infer",
            model,
            [tensor(self.module, name, array) for name, array in inputs.items()],
            outputs=wanted or None,
            **options,
        )


def tensor(module: ModuleType, name: str, array: Array, **options: Any) -> Any:
    """An input of one of the clients."""
    item = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    item.set_data_from_numpy(array, **options)
    return item


def assert_close(actual: Array, expected: Array) -> None:
    """Equal but for the order of additions, which batch sizes and threads change."""
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@asynccontextmanager
async def connect(name: str, server: Server, **options: Any) -> AsyncIterator[Client]:
    """A connected client, closed in the end."""
    address = server.grpc if name.startswith("grpc") else server.http
    client = Client(name, CLIENTS[name].InferenceServerClient(address, **options))
    try:
        yield client
    finally:
        await client.call("close")


# What looks like a number there and is a text.
_TEXTS: Final = ("version", "versions", "id")


def _numbers(value: Any) -> Any:
    """`value` with 64-bit integers as integers: protobuf's JSON holds them as strings."""
    if isinstance(value, dict):
        return {key: member if key in _TEXTS else _numbers(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_numbers(member) for member in value]
    is_number = isinstance(value, str) and value.removeprefix("-").isdecimal()
    return int(value) if is_number else value
