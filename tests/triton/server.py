"""A real Triton server over a repository of ours, for the tests that hold Penstock against it.

It comes with nvidia-pytriton, in an environment of its own, as it needs older libraries than we
do. PENSTOCK_TRITON_ENV names that environment; the default is `.venv-triton` in the project.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

import pytest

VARIABLE = "PENSTOCK_TRITON_ENV"
DEFAULT = Path(__file__).parents[2] / ".venv-triton"
BACKENDS = Path(__file__).parent / "backends"

# Each model starts a process of its own: many of them take their time on a busy machine.
START_SECONDS = 100.0
STOP_SECONDS = 15.0

# What a Python program has to say about the environment that it runs in.
PROBE = """\
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
        libraries = (self.packages / "nvidia_pytriton.libs", self.libraries)
        return os.environ | {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            # The embedded Python looks for the packages beside the first `python3` on the path.
            "PATH": os.pathsep.join((str(self.programs), os.environ["PATH"])),
            "ORT_DISABLE_TELEMETRY": "1",
        }


@dataclass(frozen=True, slots=True)
class Triton:
    """A server that is ready; the addresses are `host:port`, as tritonclient takes them."""

    http: str
    grpc: str
    metrics: str
    log: Path


def installation() -> Installation:
    """Skips the test, with the reason, where there is no Triton to run."""
    named = os.environ.get(VARIABLE)
    root = Path(named) if named else DEFAULT
    python = root / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no Triton: {python} does not exist ({VARIABLE} names its environment)")
    probed = subprocess.run(
        [python, "-c", PROBE], capture_output=True, text=True, check=True, timeout=30
    )
    packages, libraries, version = probed.stdout.splitlines()
    found = Installation(python.parent, Path(packages), Path(libraries), version)
    for file in (found.server, found.stub):
        if not file.exists():
            pytest.skip(f"no Triton: {file} does not exist (nvidia-pytriton brings it)")
    return found


@contextmanager
def triton_server(repository: Path, *arguments: str) -> Iterator[Triton]:
    """Serves `repository` until the block ends; `arguments` go to tritonserver as they are."""
    found = installation()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="triton-")))
        _assemble(found, folder / "backends")
        triton, command = _command(found, repository, folder, arguments)
        with triton.log.open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=found.environment()
            )
        stack.callback(_stop, process)
        _wait(process, triton)
        yield triton


def _assemble(found: Installation, backends: Path) -> None:
    """Triton's own Python backend with the stub of the right Python, and ours beside it."""
    shutil.copytree(BACKENDS, backends)
    shutil.copytree(found.triton / "backends" / "python", backends / "python")
    shutil.copy(found.stub, backends / "python")


def _command(
    found: Installation, repository: Path, folder: Path, arguments: Sequence[str]
) -> tuple[Triton, list[str]]:
    http, grpc, metrics = _free_ports(3)
    flags = {
        "model-repository": repository,
        "backend-directory": folder / "backends",
        "http-address": "127.0.0.1",
        "http-port": http,
        "grpc-address": "127.0.0.1",
        "grpc-port": grpc,
        "metrics-address": "127.0.0.1",
        "metrics-port": metrics,
        # Two servers at once must not share their Python backends' memory.
        "backend-config": f"python,shm-region-prefix-name=penstock-{os.getpid()}-{http}",
    }
    triton = Triton(
        http=f"127.0.0.1:{http}",
        grpc=f"127.0.0.1:{grpc}",
        metrics=f"127.0.0.1:{metrics}",
        log=folder / "triton.log",
    )
    return triton, [
        str(found.server),
        *(f"--{flag}={value}" for flag, value in flags.items()),
        *arguments,
    ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(process: "subprocess.Popen[bytes]", triton: Triton) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _ready(triton.http):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            reason = "ended" if ended else f"was not ready within {START_SECONDS:.0f} s"
            pytest.fail(f"Triton {reason}; its log:\n{triton.log.read_text(errors='replace')}")
        time.sleep(0.1)


def _ready(address: str) -> bool:
    try:
        with urlopen(f"http://{address}/v2/health/ready", timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
