"""Both servers show the same configuration in force, field by field, over both protocols."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.conformance.calls import SECONDS, Connection
from tests.conformance.cases_documents import THERE
from tests.conformance.conftest import Pair
from tests.conformance.differences import CONFIGURATION


def _rest(server: Connection, model: str, version: str) -> Any:
    version = f"/versions/{version}" if version else ""
    return server.http.get(f"/v2/models/{model}{version}/config").json()


def _grpc(server: Connection, model: str, version: str) -> Any:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    request = service_pb2.ModelConfigRequest(name=model, version=version)
    reply = stub.ModelConfig(request, SECONDS)
    return MessageToDict(
        reply.config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _different(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields that differ, or that only one of the two has."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            yield from _different(ours.get(name), theirs.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
            yield from _different(mine, yours, f"{path}[{index}]")
    elif ours != theirs:
        yield path


@pytest.mark.parametrize("read", [_rest, _grpc])
@pytest.mark.parametrize("what", THERE)
def test_a_configuration_is_tritons_but_for_what_is_listed(
    pair: Pair, what: str, read: Any
) -> None:
    model, version = THERE[what]

    found = set(_different(read(pair.ours, model, version), read(pair.triton, model, version)))

    assert found == {path for path, (only, _) in CONFIGURATION.items() if only in ("", model)}
