"""Where a checkpoint comes from: the commit of this code and the versions beneath it."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGE = Path(__file__).parent


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def commit() -> str | None:
    """The commit of this package, with `-dirty` behind it if the package differs from that commit;
    None where it is not under version control (an installed wheel, say, even one that lies in
    somebody's repository)."""
    head = _git("rev-parse", "HEAD")
    if head is None or _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return f"{head}-dirty" if _git("status", "--porcelain", ".") else head


def _git(*arguments: str) -> str | None:
    try:
        output = subprocess.check_output(
            ["git", *arguments], cwd=_PACKAGE, text=True, timeout=10, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return output.strip()
