"""Ways to serve a model, as changes of its configuration."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from serving.config import Proto

THREADS: Final = "intra_op_thread_count"
_MOST_SIZES: Final = 4
# Longer waits than this share of the objective leave too little for the execution.
_DELAY_SHARE: Final = 0.25
_DELAYS: Final = (200, 1000, 4000)  # microseconds


@dataclass(frozen=True, slots=True)
class Candidate:
    """How a model may be served.

    `instances` sessions run side by side with `threads` threads each; a batch holds up to `rows`
    rows (0: the model does not batch) and waits up to `delay` microseconds for company.
    """

    instances: int
    threads: int
    rows: int
    delay: int = 0

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        layout = f"{self.instances} x {self.threads} thread{plural}"
        if not self.rows:
            return layout
        return f"{layout}, batches of {self.rows}, {self.delay} us"

    @property
    def cost(self) -> tuple[int, int, int]:
        """What it takes; of two that are as fast the cheaper one is preferred."""
        return self.instances * self.threads, self.instances, self.delay

    def apply(self, config: Proto) -> Proto:
        """The configuration with this in it, the rest as it was."""
        changed = copy.deepcopy(config)
        del changed.instance_group[:]
        changed.instance_group.add(count=self.instances, kind="KIND_CPU")
        changed.parameters[THREADS].string_value = str(self.threads)
        if self.rows:
            changed.max_batch_size = self.rows
            changed.dynamic_batching.SetInParent()
            del changed.dynamic_batching.preferred_batch_size[:]
            changed.dynamic_batching.max_queue_delay_microseconds = self.delay
        return changed


def layouts(processors: int, rows: int) -> list[Candidate]:
    """Instances and threads that make use of the processors: alone, all in one, and in between."""
    pairs = {(1, 1), (1, processors)}
    instances = 1
    while instances * 2 <= processors:
        instances *= 2
        pairs |= {(instances, 1), (instances, processors // instances)}
    return [Candidate(*pair, rows) for pair in sorted(pairs)]


def sizes(best: Candidate, least: int = 1) -> Iterator[Candidate]:
    """Smaller batches, of `least` rows: each waits for less, and many runs cost more."""
    rows = best.rows
    for _ in range(_MOST_SIZES):
        rows //= 4
        if rows < least:
            return
        yield replace(best, rows=rows)


def delays(best: Candidate, objective: float) -> Iterator[Candidate]:
    """Waits for company, as far as `objective` seconds of latency leave time for them."""
    if best.rows > 1:
        for delay in _DELAYS:
            if delay <= objective * 1e6 * _DELAY_SHARE:
                yield replace(best, delay=delay)
