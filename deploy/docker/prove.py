"""Carries out the Dockerfile on a bare Debian root, without a container engine; starts the result.

    debootstrap --variant=minbase trixie /tmp/trixie
    python deploy/docker/prove.py /tmp/trixie cpu --work /tmp/proof

As root, on Linux. Of Dockerfiles it knows what this one uses. The server then runs as it would in
a pod: another user, no capabilities, a read-only root, loopback only; it must get healthy, answer,
and end with exit code 0 when told.
"""

import argparse
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from string import Template
from urllib.request import Request, urlopen

CONTEXT = Path(__file__).parents[2]
START_SECONDS = 120
# What container engines begin with.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000


@dataclass
class Stage:
    """An image that grows."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them, one line each."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


class Build:
    """The stages of a Dockerfile, each a folder under `work`, made when they are asked for."""

    def __init__(self, text: str, base: Path, work: Path, binds: list[str]) -> None:
        self._base, self._work, self._binds = base, work, binds
        self._blocks: dict[str, list[tuple[str, str]]] = {}
        self._stages: dict[str, Stage] = {}
        for word, rest in instructions(text):
            if word == "FROM":
                block = self._blocks[rest.split(" AS ")[1]] = []
            if self._blocks:
                block.append((word, rest))

    def stage(self, name: str) -> Stage:
        """The stage of that name, after those that it needs."""
        if name not in self._stages:
            self._stages[name] = self._begin(self._blocks[name][0][1], name)
            for word, rest in self._blocks[name][1:]:
                getattr(self, f"_{word.lower()}")(self._stages[name], rest)
        return self._stages[name]

    def _begin(self, rest: str, name: str) -> Stage:
        source = rest.partition(" AS ")[0]
        before = self.stage(source) if source in self._blocks else Stage(self._base)
        root = self._work / name
        print(f"--- {name}: from {source}", flush=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", before.root, root], check=True)
        return replace(before, root=root, env=dict(before.env))

    def _env(self, stage: Stage, rest: str) -> None:
        known = {"PATH": _PATH} | stage.env
        for word in shlex.split(rest):
            name, _, value = word.partition("=")
            stage.env[name] = Template(value).substitute(known)

    def _run(self, stage: Stage, rest: str) -> None:
        print(f"RUN {rest}", flush=True)
        mounts = "; ".join(
            f"mkdir -p {stage.root}{path}; mount --bind {path} {stage.root}{path}"
            for path in ["/proc", "/dev", *self._binds]
            if Path(path).is_dir()
        )
        for path in ("/etc/resolv.conf", *(p for p in self._binds if Path(p).is_file())):
            Path(f"{stage.root}{path}").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, f"{stage.root}{path}")
        command = f"cd {stage.workdir} && {rest}"
        inside = shlex.join(["chroot", str(stage.root), "/usr/bin/env", "-i", *_env(stage)])
        script = f"set -e; {mounts}; exec {inside} /bin/sh -c {shlex.quote(command)}"
        subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True)

    def _copy(self, stage: Stage, rest: str) -> None:
        *sources, target = [word for word in rest.split() if not word.startswith("--")]
        origin = re.match(r"--from=(\S+)", rest)
        folder = self.stage(origin[1]).root if origin else CONTEXT
        into = stage.root / os.path.join(stage.workdir, target).lstrip("/")
        into.mkdir(parents=True, exist_ok=True)
        for source in sources:
            path = folder / source.lstrip("/")
            parts = [f"{path}/."] if path.is_dir() else [str(path)]
            subprocess.run(["cp", "--archive", *parts, into], check=True)

    def _user(self, stage: Stage, rest: str) -> None:
        stage.user = rest

    def _workdir(self, stage: Stage, rest: str) -> None:
        stage.workdir = rest
        (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _entrypoint(self, stage: Stage, rest: str) -> None:
        stage.entrypoint = json.loads(rest)

    def _cmd(self, stage: Stage, rest: str) -> None:
        stage.cmd = json.loads(rest)

    def _healthcheck(self, stage: Stage, rest: str) -> None:
        stage.healthcheck = [] if rest == "NONE" else json.loads(rest.partition("CMD ")[2])

    def _label(self, stage: Stage, rest: str) -> None:
        """Says nothing to what runs."""

    _arg = _expose = _label


def _env(stage: Stage) -> list[str]:
    env = {"PATH": _PATH} | stage.env
    return [f"{name}={value}" for name, value in env.items()]


def _inside(stage: Stage, command: list[str]) -> list[str]:
    """The command line that runs `command` in the stage as Kubernetes would."""
    user, _, group = stage.user.partition(":")
    jail = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    jail += ["--bounding-set=-all", "--inh-caps=-all"]
    into = shlex.join(["cd", stage.workdir]) + " && exec " + shlex.join(command)
    # setpriv comes from the image, which is Debian's.
    return [
        "chroot",
        str(stage.root),
        "/usr/bin/env",
        "-i",
        *_env(stage),
        *jail,
        "/bin/sh",
        "-c",
        into,
    ]


def confine(stage: Stage, folder: Path, place: str) -> None:
    """Make the root read-only, with `folder` at `place`; in namespaces of its own."""
    root = str(stage.root)
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["mount", "--bind", root, root],
        ["mount", "--bind", str(folder), root + place],
        ["mount", "-o", "remount,bind,ro", root + place],
        ["mount", "-t", "proc", "proc", f"{root}/proc"],
        ["mount", "--bind", "/dev", f"{root}/dev"],
        ["mount", "-t", "tmpfs", "tmpfs", f"{root}/tmp"],
        ["mount", "-o", "remount,bind,ro", root],
    ):
        subprocess.run(command, check=True)


def load(stage: Stage) -> None:
    """Run the load kit in the image, in namespaces of its own, where there is no server to ask."""
    confine(stage, CONTEXT / "deploy" / "locust", "/mnt")
    options = ["--headless", "--locustfile=/mnt/locustfile.py", "--host=http://127.0.0.1:9"]
    asked = subprocess.run(_inside(stage, [*stage.entrypoint, *options]), check=False)
    assert asked.returncode == 2, asked.returncode
    print("Locust found nobody to ask, and ended with exit code 2")


def start(stage: Stage, models: Path) -> None:
    """Run the image, in namespaces of its own, until it has answered; then have it end."""
    confine(stage, models, f"{stage.workdir}/model_repository")
    began = time.monotonic()
    server = subprocess.Popen(_inside(stage, stage.entrypoint + stage.cmd))
    probe = partial(subprocess.call, _inside(stage, stage.healthcheck), stderr=subprocess.DEVNULL)
    _await(server, lambda: probe() == 0)
    print(f"healthy after {time.monotonic() - began:.1f} s", flush=True)
    _await(server, lambda: _status("http://127.0.0.1:8000/v2/health/ready") == 200)
    image = (CONTEXT / "docs" / "seven.png").read_bytes()
    asked = Request("http://127.0.0.1:8000/predict/mnist-cnn", image, {"Content-Type": "image/png"})
    answer = json.load(urlopen(asked))
    assert answer["predictions"][0]["label"] == "7", answer
    print(f"answered: {answer['predictions'][0]}", flush=True)
    server.send_signal(signal.SIGTERM)
    assert (code := server.wait(60)) == 0, code
    print("ended with exit code 0")


def namespaces(work: Callable[[], None]) -> None:
    """Do `work` in a process of its own, whose mounts and network nobody else sees."""
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    # Python has os.unshare from 3.12 on only.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    work()


def _await(server: "subprocess.Popen[bytes]", reached: Callable[[], bool]) -> None:
    """Until `reached`; SystemExit if the server ends before, or takes too long."""
    end = time.monotonic() + START_SECONDS
    while not reached():
        if server.poll() is not None or time.monotonic() > end:
            sys.exit(f"the server did not get there; exit code: {server.poll()}")


def _mebibytes(root: Path) -> int:
    size = subprocess.run(["du", "-xsm", root], check=True, capture_output=True, text=True)
    return int(size.stdout.split()[0])


def _status(url: str) -> int:
    try:
        with urlopen(url) as answer:
            return int(answer.status)
    except OSError:
        return 0


def main() -> None:
    """Build, show the size, start."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", type=Path, help="the root that debootstrap has made")
    parser.add_argument("target", choices=["cpu", "gpu", "loadtest"])
    parser.add_argument("--work", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--models", type=Path, default=CONTEXT / "model_repository")
    parser.add_argument("--bind", action="append", default=[], help="what the host's pip needs")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    text = (CONTEXT / "deploy/docker/Dockerfile").read_text()
    stage = Build(text, options.base, options.work, options.bind).stage(options.target)
    base, whole = _mebibytes(options.base), _mebibytes(stage.root)
    print(f"{options.target}: {whole - base} MiB on a base of {base} MiB", flush=True)
    if options.target == "cpu":
        namespaces(partial(start, stage, options.models))
    if options.target == "loadtest":
        namespaces(partial(load, stage))


if __name__ == "__main__":
    main()
