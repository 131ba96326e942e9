"""The image: nothing that is not pinned, nobody who may do anything, no models, no keys."""

import json
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.docker.prove import instructions
from serving.command import serve
from serving.devices import Wish

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "docker"
DOCKERFILE: Final = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS: Final = {
    "cpu": ["cpu", "s3", "otel"],
    "gpu": ["gpu", "s3", "otel"],
    "loadtest": ["loadtest"],
}
SERVICES: Final = sorted(COMPOSE["services"])


def locked(name: str) -> dict[str, list[str]]:
    """The versions of a lock file by package, each with its hashes."""
    text = (FOLDER / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    found = re.findall(
        r"^([\w.-]+)==(\S+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M
    )
    assert len(found) == len(re.findall(r"^[\w.-]+==", text, re.M)), "something has no hash"
    return {canonicalize_name(name): [version, *hashes.split()] for name, version, hashes in found}


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of a stage."""
    blocks: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions(DOCKERFILE):
        if word == "FROM":
            blocks[rest.split(" AS ")[1]] = []
        if blocks:
            blocks[list(blocks)[-1]].append((word, rest))
    return blocks[name]


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_what_the_project_asks_for(name: str) -> None:
    # As in the image, whatever runs this test.
    image = {"python_version": "3.13", "sys_platform": "linux"}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(r for extra in LOCKS[name] for r in extras[extra]),
    ]
    versions = locked(name)
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate(image):
            version = versions[canonicalize_name(requirement.name)][0]
            assert requirement.specifier.contains(version), f"{requirement}: {version}; renew it"


def test_the_lock_of_the_build_holds_the_build_system() -> None:
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        assert requirement.specifier.contains(locked("build")[requirement.name][0])


@pytest.mark.parametrize("name", ["gpu", "loadtest"])
def test_images_have_the_same_versions_of_what_they_share(name: str) -> None:
    cpu, other = locked("cpu"), locked(name)
    for package in cpu.keys() & other.keys():
        assert cpu[package][0] == other[package][0], package


def test_but_for_the_runtime_the_images_of_servers_have_the_same_packages() -> None:
    assert locked("cpu").keys() - locked("gpu").keys() == {"onnxruntime"}


def test_nothing_is_installed_without_its_hash() -> None:
    installs = [
        part
        for word, rest in instructions(DOCKERFILE)
        if word == "RUN"
        for part in rest.split("&&")
        if "pip" in part and " install " in part and "apt-get" not in part
    ]
    assert len(installs) == 7
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install


def test_the_image_has_the_locale_that_texts_are_normalised_in() -> None:
    """ONNX's StringNormalizer asks for it where a model says nothing else."""
    made = [rest for word, rest in stage("runtime") if word == "RUN"]
    assert any("ln --symbolic C.utf8 /usr/lib/locale/en_US.utf8" in rest for rest in made)


def test_the_image_runs_as_nobody_who_counts() -> None:
    runtime = stage("runtime")
    assert ("USER", "10001:10001") in runtime
    for name in ("cpu", "gpu"):
        words = [word for word, _ in stage(name)]
        assert set(words) <= {"FROM", "ENV", "COPY"}, "after USER, nothing is run any more"
        assert stage(name)[0][1].startswith("runtime ")
    words = [word for word, _ in stage("loadtest")]
    assert set(words) <= {"FROM", "HEALTHCHECK", "COPY", "ENTRYPOINT", "CMD"}
    assert stage("loadtest")[0][1].startswith("runtime ")


def test_the_server_is_started_by_something_that_forwards_signals() -> None:
    words = dict(stage("runtime"))
    assert json.loads(words["ENTRYPOINT"]) == ["tini", "--", "penstock"]
    command, *arguments = json.loads(words["CMD"])
    assert command == "serve"
    assert serve.make_context("serve", arguments).params["metrics_port"] == 8002
    assert "http://127.0.0.1:8002/v2/health/live" in words["HEALTHCHECK"]


def test_the_build_sees_the_sources_and_nothing_else() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.rstrip("/")
        for word, rest in instructions(DOCKERFILE)
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert allowed == copied
    assert all((ROOT / path).exists() for path in allowed)


def test_hadolint_finds_nothing() -> None:
    beside = sysconfig.get_path("scripts")  # which PATH need not name
    hadolint = shutil.which("hadolint", path=beside) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("there is no hadolint here")
    done = subprocess.run(
        [hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not service.get("privileged")
    # Of this machine, until somebody wishes otherwise.
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_mounts_what_is_there(name: str) -> None:
    for mount in COMPOSE["services"][name]["volumes"]:
        source = re.sub(r"^\$\{MODELS:-(.*?)\}", r"\1", mount).split(":")[0]
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
            assert mount.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_the_image_tags_are_exact() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    assert all(re.fullmatch(r"penstock:(cpu|gpu)|\S+:v?\d[\w.-]+", image) for image in images)


@pytest.mark.parametrize("name", ["penstock", "penstock-gpu"])
def test_the_settings_are_ones_that_the_server_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = COMPOSE["services"][name]
    known = {option.envvar: option.name for option in serve.params if hasattr(option, "envvar")}
    assert service["environment"].keys() <= known.keys()
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, value)
    parameters = serve.make_context("serve", []).params
    # Sequences, three protocols, and models that run on: docker waits for all of it.
    longest = parameters["exit_grace_secs"] + 5 * parameters["exit_timeout_secs"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= longest


def test_prometheus_asks_all_services_and_misses_none_that_nobody_started() -> None:
    document = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    expected: list[str] = []
    found: list[str] = []
    for job in document["scrape_configs"]:
        for each in job.get("static_configs", []):
            expected += each["targets"]
        for each in job.get("dns_sd_configs", []):
            found += (f"{name}:{each['port']}" for name in each["names"])
    serving = {name for name in SERVICES if name in ("penstock", "penstock-gpu", "triton")}
    assert {*expected, *found} == {f"{name}:8002" for name in serving}
    # Those are down where they are not there.
    assert not any("profiles" in COMPOSE["services"][each.split(":")[0]] for each in expected)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)
def test_prometheus_takes_its_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_the_image_for_gpus_is_run_so_that_it_does_not_fall_back_to_the_cpu() -> None:
    settings = COMPOSE["services"]["penstock-gpu"]["environment"]
    assert Wish.of(settings["PENSTOCK_DEVICE"]).is_binding
    assert settings.items() > COMPOSE["services"]["penstock"]["environment"].items()
