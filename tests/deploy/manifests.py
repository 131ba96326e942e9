"""The objects of deploy/kubernetes: as they are written, and as kustomize makes them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import yaml

Object: TypeAlias = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
# Those that run servers, and the one that asks them.
SERVING: Final = ("autoscale-hpa", "autoscale-keda", "cpu", "gpu", "kserve", "triton")
LOADTEST: Final = ("loadtest",)
OVERLAYS: Final = (*SERVING, *LOADTEST)
# An overlay, and components that change it.
SERVERS: Final = (
    *((overlay,) for overlay in SERVING),
    ("cpu", "object-store"),
    ("cpu", "secured"),
    ("cpu", "object-store", "secured"),
    ("gpu", "mig"),
    ("gpu", "object-store", "secured", "mig"),
    ("triton", "secured"),
    ("triton", "secured", "triton-tls"),
    ("autoscale-hpa", "object-store", "secured"),
    ("autoscale-keda", "object-store", "secured"),
)
BUILDS: Final = (*SERVERS, LOADTEST)
# What has a template of pods.
WORKLOADS: Final = ("Deployment", "Job")
# What KServe makes Deployments of.
RUNTIME: Final = "ClusterServingRuntime"


def built(build: tuple[str, ...]) -> list[Object]:
    """What kustomize makes of them; skips the test, with the reason, where there is no kubectl."""
    return _built(_kubectl(), build)


def built_with(overlay: str, **more: Any) -> list[Object]:
    """What a user's own kustomization makes of an overlay, with `more` in it; skips as well."""
    return _own(_kubectl(), overlay, **more)


def _kubectl() -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl here, which builds what is tested")
    return kubectl


@cache
def _built(kubectl: str, build: tuple[str, ...]) -> list[Object]:
    overlay, *components = build
    if not components:
        return _kustomized(kubectl, FOLDER / "overlays" / overlay)
    return _own(kubectl, overlay, components=components)


def _own(kubectl: str, overlay: str, components: Sequence[str] = (), **more: Any) -> list[Object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        # kustomize takes relative paths only.
        root = os.path.relpath(FOLDER, folder)
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{root}/overlays/{overlay}"],
            "components": [f"{root}/components/{component}" for component in components],
        } | more
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
        return _kustomized(kubectl, folder)


def _kustomized(kubectl: str, folder: Path) -> list[Object]:
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def documents(path: Path) -> list[Object]:
    """The objects of a file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kustomizations() -> list[Path]:
    """Every kustomization.yaml."""
    return sorted(FOLDER.rglob("kustomization.yaml"))


def written() -> list[Path]:
    """The files that kustomizations name as resources: objects that are whole as they stand."""
    return sorted(
        path
        for file in kustomizations()
        for name in documents(file)[0].get("resources", [])
        if (path := (file.parent / name).resolve()).is_file()
    )


def pod_specs(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each object that makes pods, and what it says of them."""
    for one in objects:
        if one["kind"] in WORKLOADS:
            yield one, one["spec"]["template"]["spec"]
        elif one["kind"] == RUNTIME:
            yield one, one["spec"]


def pod_labels(one: Object) -> Object:
    """The labels of the pods that the object makes."""
    spec = one["spec"]
    found: Object = (
        spec["labels"] if one["kind"] == RUNTIME else spec["template"]["metadata"]["labels"]
    )
    return found


def containers(objects: list[Object]) -> Iterator[Object]:
    """Every container of every pod."""
    for _, pod in pod_specs(objects):
        yield from pod["containers"]
        yield from pod.get("initContainers", [])


def is_penstock(container: Object) -> bool:
    """Whether the container runs Penstock, and not somebody else's image."""
    return str(container["image"]).split(":")[0] == "penstock"


def environment(container: Object, objects: list[Object]) -> dict[str, str]:
    """The container's variables whose values the manifests know."""
    maps = {one["metadata"]["name"]: one for one in objects if one["kind"] == "ConfigMap"}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= maps[source["configMapRef"]["name"]]["data"]
    for variable in container.get("env", []):
        found[variable["name"]] = variable.get("value", "")
    return found
