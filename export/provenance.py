"""Where an exported version comes from: the commit of this code and the versions beneath it."""

import platform
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from training import provenance

# The packages that decide what is in a version: the network, its export, its passport.
PACKAGES = ("training", "export", "serving")
# By the name they are imported under: ONNX Runtime goes by several distributions' names.
WITHOUT_TORCH = ("onnx", "onnxruntime", "numpy")
LIBRARIES = ("torch", "onnxscript", *WITHOUT_TORCH)


def versions(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    libraries = {name: str(import_module(name).__version__) for name in names}
    return {"python": platform.python_version(), "penstock": version("penstock")} | libraries


def commit() -> str | None:
    """The commit of the packages above; see `training.provenance.commit`."""
    return provenance.commit(*PACKAGES)
