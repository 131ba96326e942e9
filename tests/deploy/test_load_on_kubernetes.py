"""The manifests of the load test: they reach the server, and their command lines run."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.peers.base import free_ports
from tests.deploy.manifests import LOADTEST, Object, built, environment, pod_specs
from tests.e2e.server import Server, penstock_server
from tests.e2e.server import environment as without_settings

ROOT: Final = Path(__file__).parents[2]
KIT: Final = ROOT / "deploy" / "locust"


def named(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def jobs() -> dict[str, Object]:
    """The pods of the master and of the workers."""
    return {one["metadata"]["name"]: pod for one, pod in pod_specs(built(LOADTEST))}


def test_the_server_lets_them_in_and_they_may_go_there() -> None:
    [policy] = [one for one in built(("cpu",)) if one["kind"] == "NetworkPolicy"]
    clients = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    for one, _ in pod_specs(built(LOADTEST)):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert clients.items() <= labels.items()

        own = named(built(LOADTEST), "NetworkPolicy", one["metadata"]["name"])
        reached = [
            {port["port"] for port in rule["ports"]}
            for rule in own["spec"]["egress"]
            for target in rule["to"]
            if target["podSelector"] == policy["spec"]["podSelector"]
        ]
        assert reached == [{"http", "grpc"}]


def test_every_file_of_the_kit_travels() -> None:
    maps = {
        one["metadata"]["name"].removeprefix("penstock-loadtest-"): {
            *one.get("data", {}),
            *one.get("binaryData", {}),
        }
        for one in built(LOADTEST)
        if one["kind"] == "ConfigMap"
    }

    assert maps["package"] == {path.name for path in (KIT / "penstock_load").glob("*.py")}
    assert maps["samples"] == {path.name for path in (KIT / "samples").iterdir()}
    assert maps["locustfile"] == {"locustfile.py"}


def test_the_master_waits_for_as_many_workers_as_there_are() -> None:
    objects = built(LOADTEST)
    workers = named(objects, "Job", "penstock-loadtest-worker")["spec"]
    [container] = jobs()["penstock-loadtest"]["containers"]

    expected = int(environment(container, objects)["LOCUST_EXPECT_WORKERS"])
    assert workers["parallelism"] == workers["completions"] == expected


def mount(pod: Object, objects: list[Object], root: Path) -> None:
    """Lay the container's volumes out under `root` as a kubelet does: by links to ..data."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for each in pod["containers"][0]["volumeMounts"]:
        folder = root / each["mountPath"].lstrip("/")
        (folder / "..data").mkdir(parents=True, exist_ok=True)
        if "configMap" not in volumes[each["name"]]:
            continue
        files = named(objects, "ConfigMap", volumes[each["name"]]["configMap"]["name"])
        texts = {name: text.encode() for name, text in files.get("data", {}).items()}
        others = {name: base64.b64decode(t) for name, t in files.get("binaryData", {}).items()}
        for name, content in (texts | others).items():
            (folder / "..data" / name).write_bytes(content)
            (folder / name).symlink_to(f"..data/{name}")


def settings(server: Server, port: int) -> dict[str, str]:
    """What of the manifests' settings depends on the place, and a short test that has to pass."""
    return {
        "LOCUST_HOST": server.url,
        "LOCUST_GRPC_HOST": server.grpc,
        "LOCUST_MASTER_BIND_PORT": str(port),
        "LOCUST_MASTER_NODE_PORT": str(port),
        "LOCUST_USERS": "6",
        "LOCUST_RUN_TIME": "2s",
        "LOCUST_WAIT": "0.1",
        "LOCUST_SLO": "[p99=99s, errors=0%]",
    }


@contextmanager
def started(pod: Object, root: Path, changes: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The pod's process for the block, as the image would start it; its files are under `root`."""
    objects = built(LOADTEST)
    mount(pod, objects, root)
    [container] = pod["containers"]
    variables = environment(container, objects) | changes
    placed = {
        name: f"{root}{value}" if value.startswith("/") else value
        for name, value in variables.items()
    }
    arguments = [
        argument.replace("=/", f"={root}/").replace("=penstock-loadtest", "=127.0.0.1")
        for argument in container["args"]
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "locust", *arguments],
        cwd=root,
        env=without_settings(placed | {"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str], beginning: str = "nothing like it") -> str:
    """All that it says, until a line begins so."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(beginning):
            break
    return said


def test_a_master_and_two_workers_ask_the_server_and_the_master_tells(tmp_path: Path) -> None:
    pods = jobs()
    worker = pods["penstock-loadtest-worker"]
    with ExitStack() as stack:
        flags = ("--model-control-mode=explicit", "--load-model=mnist-cnn")
        server = stack.enter_context(penstock_server(*flags))
        changes = settings(server, *free_ports(1))
        folders = [(worker, tmp_path / "first"), (worker, tmp_path / "second")]
        [master, *workers] = [
            stack.enter_context(started(pod, folder, changes))
            for pod, folder in [(pods["penstock-loadtest"], tmp_path / "master"), *folders]
        ]
        told = heard(master, "Report: ")
        page = (tmp_path / "master" / "report" / "report.html").read_text(encoding="utf-8")
        # It would stay for minutes, so that somebody can fetch the report.
        master.terminate()
        told += heard(master) + "".join(map(heard, workers))
        codes = [each.wait() for each in (master, *workers)]

    assert codes == [0, 0, 0], told
    for line in ("SLO met     p99=99s", "SLO met     errors=0%"):
        assert line in told
    for kind in ("REST binary", "REST JSON", "gRPC"):
        assert re.search(rf"^{kind} .* 0\(0\.00%\)", told, re.MULTILINE), told
        assert kind in page
