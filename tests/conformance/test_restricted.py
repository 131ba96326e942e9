"""Restricted APIs: the same calls are closed by both servers, in the same words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tritonclient.grpc import service_pb2

from tests.conformance.calls import Call, Connection, Http, Rpc, Stream, connected
from tests.conformance.conftest import penstock
from tests.triton.server import triton_server

# Over REST without health, by which the servers are waited for.
GROUPS: Final = (
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
FLAGS: Final = (
    "--model-control-mode=explicit",
    "--load-model=simple",
    *(f"--http-restricted-api={group}:{group}-key=opens" for group in GROUPS),
    # Several at once.
    f"--grpc-restricted-protocol={','.join(('health', *GROUPS))}:key=opens",
)


CLOSED: Final[dict[str, Call]] = {
    f"{method} {path}": Http(method, path)
    for method, path in (
        ("GET", "/v2"),
        ("POST", "/v2"),
        ("GET", "/v2/models/simple"),
        ("GET", "/v2/models/simple/versions/1"),
        ("GET", "/v2/models/nobody"),
        ("DELETE", "/v2/models/simple"),
        ("GET", "/v2/models/simple/config"),
        ("GET", "/v2/models/simple/stats"),
        ("GET", "/v2/models/stats"),
        ("POST", "/v2/models/simple/infer"),
        ("GET", "/v2/models/simple/versions/1/infer"),
        ("POST", "/v2/models/simple/generate"),
        ("POST", "/v2/models/simple/generate_stream"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/simple/load"),
        ("POST", "/v2/repository/models/simple/unload"),
        ("POST", "/v2/repository/other/index"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("POST", "/v2/cudasharedmemory/region/r/unregister"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/simple/trace/setting"),
    )
} | {
    method.name: Rpc(method.name, getattr(service_pb2, method.input_type.name)())
    for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if method.name != "ModelStreamInfer"
}
NOT_CLOSED: Final[dict[str, Call]] = {
    "a path that is none": Http("GET", "/v2/models/simple/other"),
    "a path with a slash behind it": Http("GET", "/v2/"),
    "health": Http("GET", "/v2/health/ready"),
    "a model's health": Http("GET", "/v2/models/simple/ready"),
    "the header, in other letters": Http(
        "GET", "/v2/models/simple", None, {"METADATA-KEY": "opens"}
    ),
    "the header of gRPC": Rpc(
        "ModelReady",
        service_pb2.ModelReadyRequest(name="simple"),
        [("triton-grpc-protocol-key", "opens")],
    ),
}


class Servers(NamedTuple):
    """Both servers, with the same restrictions."""

    triton: Connection
    ours: Connection


@pytest.fixture(scope="module")
def servers(repository: Path) -> Iterator[Servers]:
    with (
        triton_server(repository, *FLAGS) as address,
        connected(address) as triton,
        penstock(repository, *FLAGS) as ours,
    ):
        yield Servers(triton, ours)


@pytest.mark.parametrize("name", CLOSED)
def test_both_close_the_same_calls_in_the_same_words(servers: Servers, name: str) -> None:
    theirs, ours = (CLOSED[name].send(server) for server in servers)
    assert "is restricted, expecting header" in theirs.message
    assert (ours.status, ours.message) == (theirs.status, theirs.message)


def test_both_close_a_stream_before_its_first_message(servers: Servers) -> None:
    theirs, ours = (Stream([]).send(server) for server in servers)
    assert "is restricted, expecting header" in theirs.message
    assert (ours.status, ours.message) == (theirs.status, theirs.message)


@pytest.mark.parametrize(
    ("key", "value"), [("metadata-key", "Opens"), ("metadata-key", ""), ("inference-key", "opens")]
)
def test_another_value_or_header_opens_neither(servers: Servers, key: str, value: str) -> None:
    call = Http("GET", "/v2/models/simple", None, {key: value})
    theirs, ours = (call.send(server) for server in servers)
    assert (ours.status, ours.message) == (theirs.status, theirs.message)
    assert theirs.status == 403


@pytest.mark.parametrize("name", NOT_CLOSED)
def test_both_leave_the_rest_as_it_is(servers: Servers, name: str) -> None:
    theirs, ours = (NOT_CLOSED[name].send(server) for server in servers)
    assert ours.status == theirs.status
    assert "restricted" not in theirs.message + ours.message
