"""What there is to build engines with here, and exactly what is missing."""

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from export.engine_key import Target
from export.errors import EngineRefused
from serving.nvml import Gpu, NoNvml, Nvml

# What ONNX Runtime's provider for TensorRT is built for, and so what can execute the engines.
MAJOR: Final = 10
_CURE: Final = f"pip install 'tensorrt-cu13<{MAJOR + 1}'"


def find() -> Target:
    """This machine's first GPU; EngineRefused with everything that is missing."""
    missing = [*_no_tensorrt(), *_no_gpu()]
    if missing:
        raise EngineRefused(f"no engine can be built here: {'; '.join(missing)}")
    nvml = Nvml()
    gpu = nvml.gpus()[0]
    try:
        return Target(
            gpu=gpu.name,
            capability=_dotted(nvml.capability(gpu)),
            driver=nvml.driver,
            cuda=_dotted(nvml.cuda),
            tensorrt=str(tensorrt().__version__),
        )
    except NoNvml as error:
        raise EngineRefused(f"no engine can be built here: {error}") from error


def tensorrt() -> Any:
    """TensorRT's own package; EngineRefused where it cannot be imported."""
    try:
        import tensorrt as module
    except (ImportError, OSError) as error:
        raise EngineRefused(f"TensorRT cannot be imported ({error}): {_CURE}") from error
    return module


def begun(kind: Any, logger: Any, said: Sequence[str] = ()) -> Any:
    """A builder or a runtime of TensorRT; EngineRefused, with what it `said`, where CUDA fails."""
    try:
        return kind(logger)
    except TypeError as error:  # as its interface has it where nothing could be made
        raise EngineRefused(
            f"TensorRT cannot use the GPU ({'; '.join(said) or error}): penstock doctor tells more"
        ) from error


def cudart(name: str = "") -> Any:
    """CUDA's runtime library, as TensorRT's package brings it; EngineRefused without one."""
    for candidate in (name,) if name else _candidates():
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            continue
    raise EngineRefused("CUDA's runtime is missing: pip install 'penstock[gpu]'")


def _no_tensorrt() -> Iterator[str]:
    try:
        version = str(tensorrt().__version__)
    except EngineRefused as refused:
        yield str(refused)
        return
    if version.partition(".")[0] != str(MAJOR):
        yield (
            f"TensorRT is {version}, and ONNX Runtime executes engines of TensorRT {MAJOR}: {_CURE}"
        )


def _no_gpu() -> Iterator[str]:
    try:
        gpus: list[Gpu] = Nvml().gpus()
    except NoNvml as error:
        yield f"no NVIDIA GPU is seen here ({error})"
        return
    if not gpus:
        yield "CUDA_VISIBLE_DEVICES leaves this process no GPU"


def _candidates() -> Iterator[str]:
    names = ("libcudart.so.13", "libcudart.so.12")
    yield from names
    try:
        import nvidia
    except ImportError:
        return
    for folder in nvidia.__path__:
        for name in names:
            yield from map(str, sorted(Path(folder).glob(f"*/lib/{name}")))


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
