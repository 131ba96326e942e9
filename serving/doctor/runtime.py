"""What serves: its versions, how Python was compiled, and whether runtime and GPU fit together."""

import platform
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from serving.devices import Gpus, Wish
from serving.doctor.findings import Finding, fault, good, warning
from serving.engine_settings import EngineKind
from serving.errors import LoadFailed
from serving.nvml import Figures, Gpu, NoNvml, Nvml
from serving.settings import Settings

_RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
_PACKAGES: Final = ("numpy", "tritonclient", "grpcio", "protobuf", "fastapi", "uvicorn")
_CUDA: Final = "CUDAExecutionProvider"
_MIB: Final = 1024 * 1024
_OPTIMISED: Final = "--enable-optimizations"
_OF_THE_SYSTEM: Final = "/usr"
_COMPILE: Final = (
    "small requests cost a tenth more: take the distribution's Python, python.org's or the "
    f"container image's; with pyenv, PYTHON_CONFIGURE_OPTS='{_OPTIMISED} --with-lto'"
)
# What the driver's kernel module makes.
NODES: Final = Path("/dev/nvidiactl")


def packages(_: Settings) -> Iterator[Finding]:
    """Which versions are installed."""
    names = (*_PACKAGES, *_installed(_RUNTIMES))
    versions = ", ".join(f"{name} {version(name)}" for name in _installed(names))
    found = f"penstock {version('penstock')}, {versions}"
    if len(_installed(_RUNTIMES)) > 1:
        advice = (
            "onnxruntime and onnxruntime-gpu overwrite each other's files: uninstall both, then "
            "install penstock[cpu] or penstock[gpu] again"
        )
        yield warning("packages", found, advice)
    else:
        yield good("packages", found)


@dataclass(frozen=True, slots=True)
class Build:
    """How a Python was compiled: configure's `arguments`, and where it was installed to."""

    arguments: str
    prefix: str
    is_debug: bool = False


THIS: Final = Build(
    str(sysconfig.get_config_var("CONFIG_ARGS") or ""),
    sys.base_prefix,
    bool(sysconfig.get_config_var("Py_DEBUG")),
)


def interpreter(_: Settings, build: Build = THIS) -> Iterator[Finding]:
    """Whether Python itself was compiled to be quick, which most of a short request depends on."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    # Windows' has no such arguments. Distributions optimise, and not all do it by this argument.
    is_optimised = _OPTIMISED in build.arguments or build.prefix == _OF_THE_SYSTEM
    if build.is_debug:
        yield warning("python", f"{name}, compiled for debugging", _COMPILE)
    elif build.arguments and not is_optimised:
        yield warning("python", f"{name}, compiled without {_OPTIMISED}", _COMPILE)
    else:
        yield good("python", f"{name}, compiled as it should be")


@dataclass(frozen=True, slots=True)
class Nvidia:
    """What the driver tells: its version, the newest CUDA that it can do, and each GPU in words."""

    driver: str
    cuda: tuple[int, int]
    gpus: tuple[str, ...]


def runtime(settings: Settings) -> Iterator[Finding]:
    """What ONNX Runtime can execute on, and whether the GPUs of this machine are among it."""
    if settings.engine is EngineKind.TRITON:
        return  # nothing is executed here
    try:
        import onnxruntime
    except ImportError as error:
        advice = "pip install 'penstock[cpu]', or 'penstock[gpu]' where there is an NVIDIA GPU"
        yield fault("runtime", f"ONNX Runtime cannot be imported: {error}", advice)
        return
    from serving.engine.backends.gpus import cuda_major, find_gpus

    providers = onnxruntime.get_available_providers()
    yield good("runtime", f"ONNX Runtime {onnxruntime.__version__}: {', '.join(providers)}")
    yield from gpus(nvidia(), providers, cuda_major(), find_gpus(Wish()))
    if settings.device.is_binding:
        try:
            yield good("device", f"--device={settings.device}: GPU {find_gpus(settings.device)}")
        except LoadFailed as error:
            yield fault("device", error.message, "the server does not start; see docs/gpu.md")


def nvidia(nodes: Path = NODES) -> Nvidia | str:
    """What NVML tells; where there are GPUs of which it does not, why not, else nothing."""
    try:
        nvml = Nvml()
        described = tuple(_described(gpu, nvml.figures(gpu)) for gpu in nvml.gpus())
        return Nvidia(nvml.driver, nvml.cuda, described)
    except NoNvml as error:
        return str(error) if nodes.exists() else ""


def gpus(
    found: Nvidia | str, providers: Sequence[str], built_for: str, usable: Gpus
) -> Iterator[Finding]:
    """Whether the GPUs that NVML has `found` and ONNX Runtime fit together.

    `built_for` is the CUDA that ONNX Runtime was built for, empty where it was for none; `usable`
    what it can execute on.
    """
    if not isinstance(found, Nvidia):
        yield from _unseen(found, _CUDA in providers)
        return
    for described in found.gpus or ("none that CUDA_VISIBLE_DEVICES leaves this process",):
        yield good("gpu", described)
    newest = ".".join(map(str, found.cuda))
    if _CUDA not in providers:
        advice = "pip uninstall onnxruntime; pip install 'penstock[gpu]'"
        yield warning("gpu runtime", "ONNX Runtime is built for processors only", advice)
    elif built_for and found.cuda[0] < int(built_for):
        told = f"driver {found.driver} is for CUDA {newest}, ONNX Runtime for {built_for}"
        yield fault("gpu runtime", told, f"install a driver for CUDA {built_for} or newer")
    elif not usable.ids:
        advice = "until then models execute on the CPU, unless --device says otherwise"
        yield warning("gpu runtime", usable.missing, advice)
    else:
        told = f"driver {found.driver} for CUDA {newest}, ONNX Runtime for {built_for}"
        yield good("gpu runtime", f"{told}; it executes on GPU {usable}")


def _unseen(why: str, is_built_for_gpus: bool) -> Iterator[Finding]:
    if why:
        yield warning("gpu", f"there is one, and nothing tells of it: {why}", "see there")
    elif is_built_for_gpus:
        advice = "install the driver; for a container, the NVIDIA Container Toolkit and --gpus all"
        yield warning("gpu", "none can be seen, and ONNX Runtime is built for them", advice)
    else:
        yield good("gpu", "none")


def _described(gpu: Gpu, figures: Figures) -> str:
    kind = f"{gpu.number}: {gpu.name}, {gpu.uuid}"
    if figures.memory_total is None or figures.memory_used is None:
        return kind
    used, total = figures.memory_used // _MIB, figures.memory_total // _MIB
    return f"{kind}, {used} MiB of {total} MiB in use"


def _installed(names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found
