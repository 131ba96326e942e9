"""The versions of what serves, and whether ONNX Runtime and the GPU fit together."""

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from serving.doctor.findings import Finding, fault, good, warning
from serving.settings import Settings

_RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
_PACKAGES: Final = ("numpy", "tritonclient", "grpcio", "protobuf", "fastapi", "uvicorn")
_CUDA: Final = "CUDAExecutionProvider"
_QUERY: Final = (
    "--query-gpu=index,name,driver_version,memory.used,memory.total,mig.mode.current",
    "--format=csv,noheader",
)
_SUPPORTED: Final = re.compile(r"CUDA Version: (\d+)\.(\d+)")
_SECONDS: Final = 30


def packages(_: Settings) -> Iterator[Finding]:
    """Which versions are installed."""
    names = (*_PACKAGES, *_installed(_RUNTIMES))
    versions = ", ".join(f"{name} {version(name)}" for name in _installed(names))
    found = f"penstock {version('penstock')}, Python {platform.python_version()}, {versions}"
    if len(_installed(_RUNTIMES)) > 1:
        advice = (
            "onnxruntime and onnxruntime-gpu overwrite each other's files: uninstall both, then "
            "install penstock[cpu] or penstock[gpu] again"
        )
        yield warning("packages", found, advice)
    else:
        yield good("packages", found)


def runtime(_: Settings) -> Iterator[Finding]:
    """What ONNX Runtime can execute on, and whether the GPUs of this machine are among it."""
    try:
        import onnxruntime
    except ImportError as error:
        advice = "pip install 'penstock[cpu]', or 'penstock[gpu]' where there is an NVIDIA GPU"
        yield fault("runtime", f"ONNX Runtime cannot be imported: {error}", advice)
        return
    providers = onnxruntime.get_available_providers()
    yield good("runtime", f"ONNX Runtime {onnxruntime.__version__}: {', '.join(providers)}")
    yield from gpus(_nvidia_smi(*_QUERY), _nvidia_smi(), providers, _built_for(onnxruntime))


def gpus(listed: str, shown: str, providers: Sequence[str], built_for: str) -> Iterator[Finding]:
    """What `nvidia-smi` lists, and in `shown` says of the driver; each is empty without a GPU.

    `built_for` is the version of CUDA that ONNX Runtime was built for, empty where it was for none.
    """
    if not listed:
        if _CUDA in providers:
            advice = (
                "install the driver; for a container, the NVIDIA Container Toolkit and --gpus all"
            )
            yield warning("gpu", "none can be seen, and ONNX Runtime is built for them", advice)
        else:
            yield good("gpu", "none")
        return
    for line in listed.splitlines():
        yield good("gpu", _described(line))
    supported = _SUPPORTED.search(shown)
    if _CUDA not in providers:
        advice = "pip uninstall onnxruntime; pip install 'penstock[gpu]'"
        yield warning("gpu runtime", "ONNX Runtime is built for processors only", advice)
    elif supported and built_for and int(supported[1]) < int(built_for.partition(".")[0]):
        found = (
            f"the driver is for CUDA {supported[1]}.{supported[2]}, ONNX Runtime for {built_for}"
        )
        yield fault("gpu runtime", found, f"install a driver for CUDA {built_for} or newer")
    else:
        yield good("gpu runtime", f"built for CUDA {built_for or 'of any version'}")


def _described(line: str) -> str:
    index, name, driver, used, total, mig = (field.strip() for field in line.split(","))
    partitioned = ", in MIG instances" if mig == "Enabled" else ""
    return f"{index}: {name}, driver {driver}, {used} of {total} in use{partitioned}"


def _installed(names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def _built_for(onnxruntime: Any) -> str:
    from onnxruntime.capi import build_and_package_info

    assert onnxruntime
    return str(getattr(build_and_package_info, "cuda_version", ""))


def _nvidia_smi(*arguments: str) -> str:
    """What it prints; empty where there is none, or no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
