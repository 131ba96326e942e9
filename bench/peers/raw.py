"""The raw runtime, with nothing around it: the ceiling of every server on the same core.

Reads requests from standard input, a line of JSON each: run batches of `batch` rows through the
model in `file` for `seconds`; if it `copies`, copy each batch in and out as well. Answers with
a line of JSON: seconds and runs, and the p50 and p99 of a run in seconds.
"""

import json
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from bench.models import session


def main() -> None:
    """Serve standard input until it ends."""
    opened = cache(session)
    for line in sys.stdin:
        asked = json.loads(line)
        runtime = opened(Path(asked["file"]))
        told = run(runtime, asked["batch"], asked["seconds"], asked["copies"])
        print(json.dumps(told), flush=True)


def run(
    runtime: onnxruntime.InferenceSession, batch: int, seconds: float, copies: bool
) -> dict[str, float]:
    """Run batches of so many rows for so long."""
    (into,), (out,) = runtime.get_inputs(), runtime.get_outputs()
    received = np.random.default_rng(0).random((batch, *into.shape[1:]), dtype=np.float32)
    rows, sent = received.copy(), np.empty((batch, *out.shape[1:]), dtype=np.float32)
    taken = []
    begin = end = time.perf_counter()
    while end - begin < seconds:
        started = end
        if copies:
            rows[:] = received
        (result,) = runtime.run([out.name], {into.name: rows})
        if copies:
            sent[:] = result
        end = time.perf_counter()
        taken.append(end - started)
    p50, p99 = np.percentile(taken, (50, 99))
    return {"seconds": end - begin, "runs": len(taken), "p50": p50, "p99": p99}


if __name__ == "__main__":
    main()
