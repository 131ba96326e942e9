"""Where an exported version comes from: the commit of this code and the versions beneath it."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).parent.parent
# The packages that decide what is in a version: the network, its export, its passport.
PACKAGES = ("training", "export", "serving")
DISTRIBUTIONS = ("penstock", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in DISTRIBUTIONS}


def commit() -> str | None:
    """The commit of this code, with `-dirty` behind it if the code differs from it; None where it
    is not under version control (an installed wheel, say, even one in somebody's repository)."""
    head = _git("rev-parse", "HEAD")
    if head is None or _git("ls-files", "--error-unmatch", "export/provenance.py") is None:
        return None
    return f"{head}-dirty" if _git("status", "--porcelain", "--", *PACKAGES) else head


def _git(*arguments: str) -> str | None:
    try:
        output = subprocess.check_output(
            ["git", *arguments], cwd=PROJECT, text=True, timeout=10, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return output.strip()
