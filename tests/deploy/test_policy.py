"""What pods may and may not do, and how they stop: rules of ours that hold for every overlay."""

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Final
from unittest.mock import patch

import click
import pytest

from serving.command import serve
from serving.engine_settings import EngineKind
from serving.settings import ENVIRONMENT_PREFIX, Settings, given
from tests.deploy.manifests import (
    BUILDS,
    FOLDER,
    RUNTIME,
    SERVERS,
    WORKLOADS,
    Object,
    built,
    containers,
    documents,
    environment,
    is_penstock,
    pod_labels,
    pod_specs,
)
from tests.triton.server import installation

builds = pytest.mark.parametrize("build", BUILDS, ids="-".join)
servers = pytest.mark.parametrize("build", SERVERS, ids="-".join)
# What makes pods as it is written, so that there is something to check where nothing can be built.
WRITTEN: Final = (
    "base/deployment.yaml",
    "overlays/loadtest/master.yaml",
    "overlays/loadtest/workers.yaml",
    "overlays/triton/triton.yaml",
    "overlays/kserve/runtime.yaml",
)
VARIABLES: Final = {
    option.envvar for option in serve.params if isinstance(option, click.Option) and option.envvar
}


def objects_of(source: tuple[str, ...]) -> list[Object]:
    """What a build makes, or what is written in a file."""
    [first, *_] = source
    return documents(FOLDER / first) if first.endswith(".yaml") else built(source)


sources = pytest.mark.parametrize("source", [*BUILDS, *((path,) for path in WRITTEN)], ids="-".join)


@sources
def test_every_container_is_confined(source: tuple[str, ...]) -> None:
    objects = objects_of(source)
    assert any(containers(objects))
    for _, pod in pod_specs(objects):
        for container in pod["containers"]:
            confined = pod.get("securityContext", {}) | container["securityContext"]
            assert confined["runAsNonRoot"] is True
            assert confined["runAsUser"] >= 1000
            assert confined["seccompProfile"] == {"type": "RuntimeDefault"}
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert not confined.get("privileged")
        for shared in ("hostNetwork", "hostPID", "hostIPC"):
            assert not pod.get(shared)
        assert not any("hostPath" in volume for volume in pod["volumes"])


@sources
def test_every_container_and_every_volume_in_memory_or_on_disk_has_limits(
    source: tuple[str, ...],
) -> None:
    for _, pod in pod_specs(objects_of(source)):
        for container in pod["containers"]:
            limits, requests = (container["resources"][kind] for kind in ("limits", "requests"))
            assert {"cpu", "memory"} <= limits.keys() & requests.keys()
            # Guaranteed: nobody is evicted for what a neighbour takes.
            assert all(limits[name] == requests[name] for name in ("cpu", "memory"))
        for volume in pod["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


@builds
def test_what_volumes_may_hold_does_not_have_the_pod_evicted(build: tuple[str, ...]) -> None:
    """Kubelets count emptyDirs on disk among the pod's ephemeral storage."""
    for one, pod in pod_specs(built(build)):
        if one["kind"] not in WORKLOADS:
            continue
        [container] = pod["containers"]
        held = [each["emptyDir"] for each in pod["volumes"] if "emptyDir" in each]
        on_disk = [mebibytes(each["sizeLimit"]) for each in held if each.get("medium") != "Memory"]
        # With room for the container's log.
        granted = container["resources"]["limits"]["ephemeral-storage"]
        assert sum(on_disk) < mebibytes(granted)


def mebibytes(quantity: str) -> int:
    factors = {"Mi": 1, "Gi": 1024}
    return int(quantity[:-2]) * factors[quantity[-2:]]


@sources
def test_no_pod_holds_a_token_of_the_cluster_or_settings_that_it_was_not_given(
    source: tuple[str, ...],
) -> None:
    objects = objects_of(source)
    pods = [pod for one, pod in pod_specs(objects) if one["kind"] in WORKLOADS]
    # KServe's runtime has no such fields; what its services say of their pods is added to it.
    pods += [one["spec"]["predictor"] for one in objects if one["kind"] == "InferenceService"]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        # A service called penstock makes variables that begin as our settings do.
        assert pod["enableServiceLinks"] is False


@builds
def test_the_account_has_no_rights(build: tuple[str, ...]) -> None:
    objects = built(build)
    assert {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret"}.isdisjoint(
        one["kind"] for one in objects
    )
    [account] = [one for one in objects if one["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False


@builds
def test_every_deployment_has_its_budget_its_policy_and_its_monitor(build: tuple[str, ...]) -> None:
    objects = built(build)
    for kind, workloads in (
        ("PodDisruptionBudget", ("Deployment",)),
        ("PodMonitor", ("Deployment", RUNTIME)),
        ("NetworkPolicy", WORKLOADS),
    ):
        named = {one["metadata"]["name"] for one in objects if one["kind"] == kind}
        wanted = {one["metadata"]["name"] for one in objects if one["kind"] in workloads}
        assert named == wanted, kind


@builds
def test_metrics_are_of_a_job_with_penstock_in_its_name_if_they_are_ours(
    build: tuple[str, ...],
) -> None:
    """Others would be added to ours by the rules and the dashboard."""
    objects = built(build)
    monitors = [one for one in objects if one["kind"] == "PodMonitor"]
    for one in objects:
        if one["kind"] not in ("Deployment", RUNTIME):
            continue
        labels = pod_labels(one)
        [monitor] = [
            each
            for each in monitors
            if each["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ]
        # As the operator names it.
        placed = "/".join(monitor["metadata"][name] for name in ("namespace", "name"))
        job = labels.get(monitor["spec"].get("jobLabel"), placed)
        assert ("penstock" in job) == is_penstock(*containers([one]))


@builds
def test_network_policies_close_both_directions(build: tuple[str, ...]) -> None:
    for one in built(build):
        if one["kind"] == "NetworkPolicy":
            assert set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            assert all(rule.get("from") for rule in one["spec"]["ingress"])


@builds
def test_every_port_that_is_named_is_one_of_the_container(build: tuple[str, ...]) -> None:
    objects = built(build)
    named = {
        port["name"] for container in containers(objects) for port in container.get("ports", [])
    }
    for one in objects:
        if one["kind"] == "Service":
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= named
        if one["kind"] == "PodMonitor":
            assert {each["port"] for each in one["spec"]["podMetricsEndpoints"]} <= named


def parsed(arguments: list[str], variables: Mapping[str, str]) -> Settings:
    """The settings that the real command line makes of them."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    with patch.dict(os.environ, clean | dict(variables), clear=True):
        return given(serve.make_context("serve", arguments).params)


def settings_of(container: Object, objects: list[Object]) -> Settings:
    command, *arguments = container["args"]
    assert command == "serve"
    variables = environment(container, objects)
    ours = {name for name in variables if name.startswith(ENVIRONMENT_PREFIX)}
    assert ours <= VARIABLES, "the server has no such setting"
    return parsed(arguments, {name: variables[name] for name in ours})


@servers
def test_the_server_takes_every_flag_and_variable(build: tuple[str, ...]) -> None:
    objects = built(build)
    found = [settings_of(each, objects) for each in containers(objects) if is_penstock(each)]
    assert found
    for settings in found:
        assert settings.log_format.value == "json"


def test_the_settings_that_are_written_are_ones_that_the_server_takes() -> None:
    lines = (FOLDER / "base" / "settings.env").read_text(encoding="utf-8").splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert variables.keys() <= VARIABLES
    assert parsed([], variables).exit_grace_secs == 10


@servers
def test_the_grace_of_a_pod_is_as_long_as_a_stop_may_take(build: tuple[str, ...]) -> None:
    objects = built(build)
    for one, pod in pod_specs(objects):
        [container] = pod["containers"]
        if not is_penstock(container):
            continue
        settings = settings_of(container, objects)
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {"seconds": 0})
        # Sequences, the ports of three protocols, and models that run on, each in its turn.
        longest = sleep["seconds"] + settings.exit_grace_secs + 5 * settings.exit_timeout_secs
        assert settings.exit_grace_secs > 0
        granted = pod if one["kind"] == "Deployment" else predictor(objects)
        assert granted["terminationGracePeriodSeconds"] >= longest


@servers
def test_large_requests_fit_into_the_memory_of_the_server(build: tuple[str, ...]) -> None:
    objects = built(build)
    for container in containers(objects):
        if is_penstock(container):
            settings = settings_of(container, objects)
            # As measured with 60 MiB a request; a gateway copies what it passes on.
            share = 8 if settings.engine is EngineKind.TRITON else 4
            granted = mebibytes(container["resources"]["limits"]["memory"]) * 2**20
            assert granted >= share * settings.max_inflight_bytes


def predictor(objects: list[Object]) -> Object:
    """What KServe's service says of its pods."""
    [service] = [one for one in objects if one["kind"] == "InferenceService"]
    pod: Object = service["spec"]["predictor"]
    return pod


def test_mig_takes_the_place_of_the_gpu() -> None:
    [container] = containers(built(("gpu", "mig")))
    limits = container["resources"]["limits"]
    assert {name for name in limits if name.startswith("nvidia.com/")} == {"nvidia.com/mig-1g.10gb"}


def test_an_object_store_takes_the_place_of_the_volume() -> None:
    objects = built(("cpu", "object-store"))
    [container] = containers(objects)
    settings = settings_of(container, objects)
    assert "PersistentVolumeClaim" not in {one["kind"] for one in objects}
    assert [str(place) for place in settings.model_repository] == ["s3://models/production"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert not mounts[str(settings.model_repository_cache)].get("readOnly")


def test_security_is_that_of_the_secrets() -> None:
    objects = built(("cpu", "secured"))
    [container] = containers(objects)
    settings = settings_of(container, objects)
    assert settings.http_use_ssl
    assert settings.grpc_use_ssl
    folders = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
    for path in (
        settings.api_keys_file,
        settings.http_server_cert,
        settings.http_server_key,
        settings.grpc_server_cert,
        settings.grpc_server_key,
    ):
        assert path.rsplit("/", 1)[0] in folders


def test_gateway_and_triton_show_each_other_certificates_from_what_is_mounted() -> None:
    objects = built(("triton", "secured", "triton-tls"))
    by_name = {container["name"]: container for container in containers(objects)}
    settings = settings_of(by_name["penstock"], objects)
    assert settings.triton_use_ssl
    files = [settings.triton_root_cert, settings.triton_client_cert, settings.triton_client_key]
    flags = dict(flag.split("=", 1) for flag in by_name["triton"]["args"][1:])
    assert flags["--grpc-use-ssl-mutual"] == "1"
    assert sorted(files) == sorted(flags[name] for name in flags if name.endswith(("cert", "key")))
    for container in by_name.values():
        mounts = {each["mountPath"] for each in container["volumeMounts"] if each.get("readOnly")}
        assert {path.rsplit("/", 1)[0] for path in files} <= mounts


def test_triton_takes_every_flag_of_its_own() -> None:
    found = installation()
    objects = built(("triton", "secured", "triton-tls"))
    [container] = [each for each in containers(objects) if each["name"] == "triton"]
    program, *arguments = container["args"]
    assert program == found.server.name
    told = subprocess.run(
        [found.server, "--help"],
        env=os.environ | found.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    known = set(re.findall(r"--[\w-]+", told.stdout + told.stderr))
    assert {argument.partition("=")[0] for argument in arguments} <= known
