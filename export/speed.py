"""How fast a variant is against the fp32 model, by turns on this machine.

Both run in each round, in turning order, so that whatever else the machine does hits both; the
speedup is the median over the rounds. One thread, by the processor time that it takes, in which
there is no waiting for other processes.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from serving.passport import SpeedProof, Spread

FASTER: Final = 1.05  # a smaller speedup is not worth another model
WARM_UP: Final = 3
ROUNDS: Final = (15, 200)
NANOSECONDS: Final = 3_000_000_000  # that the rounds of one batch size shall take

Run = Callable[[], object]


def compare(
    fp32: Run, variant: Run, batch_size: int, clock: Callable[[], int] = time.thread_time_ns
) -> SpeedProof:
    """What `clock` (nanoseconds) says of running both on the same batch."""
    for _ in range(WARM_UP):
        pair = _round((fp32, variant), clock)
    fewest, most = ROUNDS
    n = max(fewest, min(most, NANOSECONDS // sum(pair)))
    times = np.empty((n, 2))
    for index in range(n):
        if index % 2:
            times[index, ::-1] = _round((variant, fp32), clock)
        else:
            times[index] = _round((fp32, variant), clock)
    return SpeedProof(
        batch_size=batch_size,
        n=n,
        fp32_microseconds=_spread(times[:, 0] / 1000),
        variant_microseconds=_spread(times[:, 1] / 1000),
        speedup=_spread(times[:, 0] / times[:, 1]),
    )


def slower(proofs: Sequence[SpeedProof]) -> str:
    """Where the variant is not faster; empty if it is at every batch size, in three rounds of
    four."""
    slow = [proof for proof in proofs if proof.speedup.median < FASTER or proof.speedup.lower <= 1]
    return ", ".join(shown(proof) for proof in slow)


def shown(proof: SpeedProof) -> str:
    """A speedup with its quartiles, in words."""
    by = proof.speedup
    return (
        f"{by.median:.2f} times as fast at batch size {proof.batch_size} "
        f"({by.lower:.2f} to {by.upper:.2f}, n = {proof.n})"
    )


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.+)", info.read_text())):
        model = found.group(1)
    return f"{model}, {os.cpu_count()} processors, 1 thread"


def _round(runs: Sequence[Run], clock: Callable[[], int]) -> tuple[int, int]:
    """How long each of the two took; at least 1, of which there is a share."""
    start = clock()
    runs[0]()
    between = clock()
    runs[1]()
    return max(1, between - start), max(1, clock() - between)


def _spread(values: np.ndarray) -> Spread:
    lower, median, upper = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Spread(median=median, lower=lower, upper=upper)
