"""Every route and every method belongs to a group, and to the one that its documentation says."""

import re
from collections.abc import Iterator
from typing import Final

import pytest
from tritonclient.grpc import service_pb2

from serving.gateway.groups import of_method, of_path
from serving.restrictions import Group
from tests.serving.gateway.asgi import application
from tests.serving.gateway.scripted import ScriptedEngine

TAGS: Final = {
    "health": {Group.HEALTH},
    "metadata": {Group.METADATA, Group.MODEL_CONFIG},
    "inference": {Group.INFERENCE},
    "predict": {Group.INFERENCE},
    "generate": {Group.INFERENCE},
    "statistics": {Group.STATISTICS},
    "repository": {Group.MODEL_REPOSITORY},
    "logging": {Group.LOGGING},
    "trace": {Group.TRACE},
}


def documented() -> Iterator[tuple[str, str]]:
    """Each path, with a name for each of its parameters, and its tag."""
    for path, methods in application(ScriptedEngine()).openapi()["paths"].items():
        for operation in methods.values():
            [tag] = operation["tags"]
            yield re.sub(r"\{\w+\}", "name", path), tag


def test_every_documented_path_is_of_the_group_that_its_tag_says() -> None:
    paths = list(documented())
    assert {tag for _, tag in paths} == set(TAGS)
    assert {path: tag for path, tag in paths if of_path(path) not in TAGS[tag]} == {}


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/v2", Group.METADATA),
        ("/v2/models/stats", Group.STATISTICS),
        ("/v2/models/stats/infer", Group.INFERENCE),
        ("/v2/models/versions/versions/versions", Group.METADATA),
        ("/v2/models/versions/versions/1/infer", Group.INFERENCE),
        ("/v2/models/infer", Group.METADATA),
        ("/v2/models/m/config", Group.MODEL_CONFIG),
        ("/v2/models/m/versions/1/config", Group.MODEL_CONFIG),
        ("/v2/models/m/trace/setting", Group.TRACE),
        ("/v2/repository/other/models/m/load", Group.MODEL_REPOSITORY),
        ("/v2/systemsharedmemory/region/r/register", Group.SHARED_MEMORY),
        ("/v2/cudasharedmemory/status", Group.SHARED_MEMORY),
        ("/docs", Group.DOCUMENTATION),
        ("/static-offline-docs/swagger-ui.css", Group.DOCUMENTATION),
        ("/", Group.DOCUMENTATION),
        ("//", None),
        ("", None),
        ("v2", None),
        ("//v2", None),
        ("/V2", None),
        ("/v2/models", None),
        ("/v2/models/m/other", None),
        ("/v2/models/m/versions/1/infer2", None),
        ("/infer", None),
    ],
)
def test_a_path_is_read_as_the_router_reads_it(path: str, group: Group | None) -> None:
    assert of_path(path) is group


def test_every_method_of_the_service_has_a_group() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    names = [method.name for method in service.methods]
    assert [name for name in names if of_method(f"/{service.full_name}/{name}") is None] == []


@pytest.mark.parametrize(
    ("method", "group"),
    [
        ("/grpc.health.v1.Health/Check", Group.HEALTH),
        ("/grpc.health.v1.Health/Watch", Group.HEALTH),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Group.DOCUMENTATION),
        ("/inference.GRPCInferenceService/Other", None),
        ("/other.Service/ModelInfer", None),
        ("ModelInfer", None),
    ],
)
def test_a_method_is_of_its_service(method: str, group: Group | None) -> None:
    assert of_method(method) is group
