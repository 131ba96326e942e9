"""Where a checkpoint comes from: the commit of this code and the versions beneath it."""

import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PROJECT = Path(__file__).parent.parent


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def code_sha256(package: str) -> str:
    """Of all sources of a package, wherever it is installed."""
    digest = hashlib.sha256()
    for path in sorted((_PROJECT / package).rglob("*.py")):
        digest.update(f"{path.relative_to(_PROJECT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def commit(*packages: str) -> str | None:
    """The commit of these packages, with `-dirty` behind it if they differ from that commit; None
    where they are not under version control (an installed wheel, say, even one that lies in
    somebody's repository)."""
    head = _git("rev-parse", "HEAD")
    if head is None or _git("ls-files", "--error-unmatch", *packages) is None:
        return None
    return f"{head}-dirty" if _git("status", "--porcelain", "--", *packages) else head


def _git(*arguments: str) -> str | None:
    try:
        output = subprocess.check_output(
            ["git", *arguments], cwd=_PROJECT, text=True, timeout=10, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return output.strip()
