"""Load over gRPC, by h2load: unary calls over cleartext HTTP/2, one at a time on a connection."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import numpy as np

from bench.cases import Answer, Request
from bench.load import PATIENCE, Sent, Wrong, compare, execute, tool
from bench.models import Array

UNLIMITED: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_PREFIX: Final = 5  # bytes before a message: whether it is compressed, and its length
_DONE: Final = re.compile(r"^requests: .* (\d+) done, (\d+) succeeded", re.MULTILINE)
_DATA: Final = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


def check(address: str, request: Request, expected: Array) -> int:
    """Call once; Wrong unless the answer is what the raw runtime says. Gives its bytes."""
    with grpc.insecure_channel(address, UNLIMITED) as channel:
        try:
            answer: bytes = channel.unary_unary(request.path)(request.body, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise Wrong(f"{request.path} fails: {error}") from error
    compare(request.read(Answer({}, answer)), expected, request.path)
    return len(answer)


def send(
    address: str, request: Request, connections: int, seconds: int, core: int, answer: int
) -> Sent:
    """Call as fast as answers come on so many connections; `answer` is the bytes of a right one.

    h2load does not read gRPC's status, which comes after the answer. A failed call has no answer:
    what lacks of the data that so many answers are says how many failed.
    """
    with TemporaryDirectory(prefix="bench-h2load-") as scratch:
        body, log = Path(scratch) / "body", Path(scratch) / "log"
        body.write_bytes(b"\0" + len(request.body).to_bytes(4, "big") + request.body)
        command = [tool("h2load"), "-t1", "-m1", f"-c{connections}", f"-D{seconds}s"]
        command += [f"-d{body}", f"--log-file={log}", "-Hte: trailers"]
        command += ["-Hcontent-type: application/grpc", f"http://{address}{request.path}"]
        said, computed = execute(command, [core])
        # Start, status and duration of each call, times in microseconds.
        calls = np.loadtxt(log, dtype=np.int64, ndmin=2)
    done, succeeded = (int(count) for count in _found(_DONE, said).groups())
    answered = min(succeeded, int(_found(_DATA, said)[1]) // (_PREFIX + answer))
    p50, p99 = np.percentile(calls[:, 2], (50, 99)) if len(calls) else (0.0, 0.0)
    return Sent(seconds, answered, p50 / 1e6, p99 / 1e6, done - answered, computed)


def _found(pattern: re.Pattern[str], said: str) -> re.Match[str]:
    found = pattern.search(said)
    if not found:
        raise Wrong(f"h2load said nothing of {pattern.pattern}:\n{said}")
    return found
