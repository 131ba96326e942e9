"""Every overlay builds, and what it makes is what Kubernetes and its operators take."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Final

import jsonschema_rs
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from serving.devices import Wish
from tests.deploy.manifests import (
    BUILDS,
    FOLDER,
    OVERLAYS,
    Object,
    built,
    built_with,
    documents,
    kustomizations,
    pod_labels,
    pod_specs,
    written,
)

# The oldest that has everything that is used (preStop's sleep), and a later one.
VERSIONS: Final = ("1.30", "1.34")
SCHEMAS: Final = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "schemas").glob("*.yaml"))
}
builds = pytest.mark.parametrize("build", BUILDS, ids="-".join)


def check(one: Object, version: str) -> None:
    """Fails unless the API, or the operator whose object it is, takes the object."""
    schema = SCHEMAS.get(one["kind"].lower())
    if schema is None:
        _check_by_api(json.dumps(one), version)
        return
    jsonschema_rs.validate(schema, one)
    if one["kind"] == "ScaledObject":
        _check_by_api(json.dumps(as_autoscaler(one)), version)
    if one["kind"] == "ClusterServingRuntime":
        _check_by_api(json.dumps(as_pod(one)), version)


@cache
def _check_by_api(text: str, version: str) -> None:
    # Most objects are the same in all builds, and a look at one takes its time.
    kubernetes_validate.validate(json.loads(text), version, strict=True)


def as_autoscaler(scaled: Object) -> Object:
    """The HorizontalPodAutoscaler that KEDA makes of it, metrics aside."""
    spec = scaled["spec"]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": scaled["metadata"],
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }


def as_pod(runtime: Object) -> Object:
    """The pod that KServe makes of it."""
    spec = {name: runtime["spec"][name] for name in ("containers", "volumes")}
    metadata = {"name": "pod", "annotations": runtime["spec"]["annotations"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("version", VERSIONS)
@builds
def test_every_object_is_one_that_the_api_takes(build: tuple[str, ...], version: str) -> None:
    for one in built(build):
        check(one, version)


@pytest.mark.parametrize("path", written(), ids=lambda path: str(path.relative_to(FOLDER)))
def test_what_is_written_is_what_the_api_takes(path: Path) -> None:
    for one in documents(path):
        placed = copy.deepcopy(one)
        if one["kind"] != "ClusterServingRuntime":
            # kustomize says where.
            placed["metadata"].setdefault("namespace", "penstock")
        check(placed, VERSIONS[0])


def test_a_misspelt_field_is_noticed() -> None:
    [monitor] = documents(FOLDER / "base" / "monitoring.yaml")
    monitor["metadata"]["namespace"] = "penstock"
    monitor["spec"]["podMetricsEndpoint"] = []
    with pytest.raises(jsonschema_rs.ValidationError, match="podMetricsEndpoint"):
        check(monitor, VERSIONS[0])
    [deployment] = documents(FOLDER / "base" / "deployment.yaml")
    deployment["spec"]["template"]["spec"]["serviceAcountName"] = "penstock"
    with pytest.raises(kubernetes_validate.ValidationError, match="serviceAcountName"):
        check(deployment, VERSIONS[0])


@pytest.mark.parametrize(
    "file", kustomizations(), ids=lambda path: str(path.parent.relative_to(FOLDER))
)
def test_a_kustomization_names_what_is_there(file: Path) -> None:
    [document] = documents(file)
    named = [
        *document.get("resources", []),
        *document.get("components", []),
        *(
            file
            for each in document.get("configMapGenerator", [])
            for file in [*each.get("envs", []), *each.get("files", [])]
        ),
        *(patch["path"] for patch in document.get("patches", []) if "path" in patch),
    ]
    assert named or document["patches"]
    for name in named:
        assert (file.parent / name).exists(), name


def test_every_overlay_is_built_here() -> None:
    assert {path.name for path in (FOLDER / "overlays").iterdir()} == set(OVERLAYS)
    assert {path.name for path in (FOLDER / "components").iterdir()} == {
        component for _, *components in BUILDS for component in components
    }


@builds
def test_images_bear_the_tag_of_what_they_are_for(build: tuple[str, ...]) -> None:
    tags = {
        container["image"] for _, pod in pod_specs(built(build)) for container in pod["containers"]
    }
    tag = build[0] if build[0] in ("gpu", "loadtest") else "cpu"
    others = {"nvcr.io/nvidia/tritonserver:24.10-py3"} if build[0] == "triton" else set()
    assert tags == {f"penstock:{tag}"} | others


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_kustomization_of_ones_own_names_the_image(overlay: str) -> None:
    image = {"name": "penstock", "newName": "registry.example/penstock", "newTag": "7"}
    pods = [pod for _, pod in pod_specs(built_with(overlay, images=[image]))]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert "registry.example/penstock:7" in images
    assert not any(name.startswith("penstock:") for name in images)


@builds
def test_selectors_find_the_pods_that_they_are_for(build: tuple[str, ...]) -> None:
    objects = built(build)
    pods = [pod_labels(one) for one, _ in pod_specs(objects)]
    for one in objects:
        spec = one.get("spec", {})
        wanted = {
            "Service": lambda spec: spec["selector"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
        }.get(one["kind"])
        if wanted is not None:
            chosen = [labels for labels in pods if wanted(spec).items() <= labels.items()]
            assert len(chosen) == 1, one["metadata"]["name"]


@builds
def test_what_is_referred_to_by_name_is_there(build: tuple[str, ...]) -> None:
    objects = built(build)
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for _, pod in pod_specs(objects):
        mounted = {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in names
            if files := volume.get("configMap"):
                assert ("ConfigMap", files["name"]) in names
        if account := pod.get("serviceAccountName"):
            assert ("ServiceAccount", account) in names
    for one in objects:
        if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = one["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) in names


@pytest.mark.parametrize("overlay", ["autoscale-hpa", "autoscale-keda"])
def test_nothing_but_the_autoscaler_says_how_many_replicas_there_are(overlay: str) -> None:
    [deployment] = [one for one in built((overlay,)) if one["kind"] == "Deployment"]
    assert "replicas" not in deployment["spec"]


def test_both_autoscalers_scale_alike() -> None:
    [hpa] = documents(FOLDER / "overlays" / "autoscale-hpa" / "autoscaler.yaml")
    [keda] = documents(FOLDER / "overlays" / "autoscale-keda" / "autoscaler.yaml")
    advanced = keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    assert advanced["behavior"] == hpa["spec"]["behavior"]
    assert keda["spec"]["maxReplicaCount"] == hpa["spec"]["maxReplicas"]
    load, cpu = hpa["spec"]["metrics"]
    triggers = {
        trigger.get("name", trigger["type"]): trigger for trigger in keda["spec"]["triggers"]
    }
    assert load["pods"]["target"]["averageValue"] == "500m"
    assert float(triggers["load"]["metadata"]["threshold"]) == 0.5
    assert (
        int(triggers["cpu"]["metadata"]["value"]) == cpu["resource"]["target"]["averageUtilization"]
    )


def test_pods_on_nodes_with_gpus_do_not_fall_back_to_the_cpu() -> None:
    [deployment] = [one for one in built(("gpu",)) if one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    said = {each["name"]: each.get("value") for each in container["env"]}
    assert Wish.of(said["PENSTOCK_DEVICE"]).is_binding
