"""The real Triton with its Python backend around ONNX Runtime, as nvidia-pytriton brings it.

It lies in an environment of its own, as it needs older libraries than we do: PENSTOCK_TRITON_ENV
names it; the default is `.venv-triton` in the project, which `make install-dev` builds.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.machine import Unavailable
from bench.peers.base import ROOT, Running, free_ports, launched

VARIABLE: Final = "PENSTOCK_TRITON_ENV"
DEFAULT: Final = ROOT / ".venv-triton"
SHARED: Final = Path("/dev/shm")
# A Python backend named `onnxruntime`: pip's Triton comes without the C++ one of that name.
BACKENDS: Final = ROOT / "tests" / "triton" / "backends"

# What a Python program has to say about the environment that it runs in.
PROBE: Final = """\
import sysconfig
print(sysconfig.get_path("purelib"))
print(sysconfig.get_config_var("LIBDIR"))
print(sysconfig.get_python_version())
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where nvidia-pytriton lies, and the Python that Triton's Python backend embeds."""

    programs: Path
    packages: Path
    libraries: Path
    python: str  # such as "3.11"

    @property
    def triton(self) -> Path:
        return self.packages / "pytriton" / "tritonserver"

    @property
    def server(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        return self.triton / "python_backend_stubs" / self.python / "triton_python_backend_stub"

    def environment(self) -> dict[str, str]:
        """What the server needs beside this process's environment."""
        libraries = (self.packages / "nvidia_pytriton.libs", self.libraries)
        return {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            # The embedded Python looks for the packages beside the first `python3` on the path.
            "PATH": os.pathsep.join((str(self.programs), os.environ["PATH"])),
        }


def root() -> Path:
    """The environment that nvidia-pytriton is installed in."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


def installation() -> Installation:
    """The installed Triton; Unavailable where there is none to run."""
    python = root() / "bin" / "python"
    if not python.exists():
        raise Unavailable(f"no Triton: {python} does not exist ({VARIABLE} names its environment)")
    probed = subprocess.run(
        [python, "-c", PROBE], capture_output=True, text=True, check=True, timeout=30
    )
    packages, libraries, version = probed.stdout.splitlines()
    found = Installation(python.parent, Path(packages), Path(libraries), version)
    for file in (found.server, found.stub):
        if not file.exists():
            raise Unavailable(f"no Triton: {file} does not exist (nvidia-pytriton brings it)")
    return found


def assemble(found: Installation, backends: Path) -> None:
    """Triton's own Python backend with the stub of the right Python, and ours beside it."""
    shutil.copytree(BACKENDS, backends)
    shutil.copytree(found.triton / "backends" / "python", backends / "python")
    shutil.copy(found.stub, backends / "python")


def flags(repository: Path, backends: Path, ports: Mapping[str, int]) -> list[str]:
    """tritonserver's flags; `ports` are those of http, grpc and metrics."""
    values = {
        "model-repository": repository,
        "backend-directory": backends,
        "backend-config": f"python,shm-region-prefix-name={_memory(ports)}",
    }
    told = [f"--{flag}={value}" for flag, value in values.items()]
    for protocol, port in ports.items():
        told += [f"--{protocol}-address=127.0.0.1", f"--{protocol}-port={port}"]
    return told


def _memory(ports: Mapping[str, int]) -> str:
    """How the shared memory of its Python backend begins, which no two servers may share."""
    return f"penstock-{os.getpid()}-{ports['http']}-"


@contextmanager
def serve(repository: Path, *arguments: str) -> Iterator[Running]:
    """tritonserver on free ports, ready; `arguments` go to it as they are."""
    found = installation()
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    with TemporaryDirectory(prefix="bench-triton-") as scratch:
        folder = Path(scratch)
        assemble(found, folder / "backends")
        command = [str(found.server), *flags(repository, folder / "backends", ports), *arguments]
        try:
            with launched(
                command, ports, folder / "log", "/v2/health/ready", found.environment()
            ) as running:
                yield running
        finally:
            # It leaves it behind where it is killed.
            for left in SHARED.glob(f"{_memory(ports)}*"):
                left.unlink(missing_ok=True)
