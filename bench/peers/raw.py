"""The raw runtime, with nothing around it: the ceiling of every server on the same core.

    python -m bench.peers.raw model.onnx

Reads `BATCH SECONDS` from standard input, runs batches of that size for so long, and answers with
one line of JSON: seconds, batches, and the p50 and p99 of a run in seconds.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from bench.models import INPUT, OUTPUT, SHAPE, session


def main() -> None:
    """Serve standard input until it ends."""
    runtime = session(Path(sys.argv[1]))
    for line in sys.stdin:
        batch, seconds = line.split()
        print(json.dumps(run(runtime, int(batch), float(seconds))), flush=True)


def run(runtime: onnxruntime.InferenceSession, batch: int, seconds: float) -> dict[str, float]:
    """Run batches of `batch` images for so long."""
    images = np.zeros((batch, *SHAPE), dtype=np.float32)
    taken = []
    begin = end = time.perf_counter()
    while end - begin < seconds:
        started = end
        runtime.run([OUTPUT], {INPUT: images})
        end = time.perf_counter()
        taken.append(end - started)
    p50, p99 = np.percentile(taken, (50, 99))
    return {"seconds": end - begin, "batches": len(taken), "p50": p50, "p99": p99}


if __name__ == "__main__":
    main()
