"""Start a server on free ports, put it under load for half a minute, and say where the report is.

Further arguments are Locust's: python deploy/locust/run.py --load spike --slo p99=50ms
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
REPORT: Final = ROOT / "runs" / "loadtest.html"

_ADDRESS: Final = re.compile(r"^(REST|gRPC)\s+(?:http://)?([\w.:\[\]-]+)")
_STARTED: Final = "Ctrl-C stops."
# Users of every kind; what comes later on the command line holds.
_USUAL: Final = ("--headless", "--only-summary", "--run-time=30s", "--users=10", "--spawn-rate=10")


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """A server of the repository's models for the block; its addresses by protocol."""
    protocols = ("http", "grpc", "metrics")
    command = [
        *(sys.executable, "-m", "penstock", "serve"),
        *(f"--model-repository={path}" for path in (ROOT / "model_repository", HERE / "models")),
        *(f"--{protocol}-address=127.0.0.1" for protocol in protocols),
        *(f"--{protocol}-port=0" for protocol in protocols),
        "--log-info=false",
        "--passport-policy=off",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            addresses: dict[str, str] = {}
            for line in process.stdout:
                if found := _ADDRESS.match(line):
                    addresses[found[1]] = found[2]
                if line.startswith(_STARTED):
                    break
            yield addresses
        finally:
            process.terminate()


def main(arguments: list[str]) -> int:
    """Locust's exit code, after a run with these arguments of its own."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    with server() as addresses:
        if len(addresses) < 2:
            print("the server did not start", file=sys.stderr)
            return 1
        command = [
            *(sys.executable, "-m", "locust", f"--locustfile={HERE / 'locustfile.py'}", *_USUAL),
            *(f"--host=http://{addresses['REST']}", f"--grpc-host={addresses['gRPC']}"),
            *(f"--html={REPORT}", *arguments),
        ]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if REPORT.exists():
        print(f"Report: {REPORT.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
