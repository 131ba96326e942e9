"""What a client is told of where its time went: Server-Timing, as W3C has it, by any protocol."""

from typing import Final

from serving.types import Timing

# gRPC spells names in lower case; HTTP does not mind.
NAME: Final = "server-timing"

# Written for every answer, for which an f-string takes twice as long.
_VALUE: Final = 'queue;dur=%.3f, batch;desc="%d rows";dur=%.3f, compute;dur=%.3f, total;dur=%.3f'


def server_timing(timing: Timing, total: int) -> str:
    """The value of the header: durations in milliseconds, and the rows of the batch.

    `queue` is the wait until the batch ran; `batch`, a part of it, that for more requests while an
    instance was free; `compute` the execution. `total` nanoseconds passed from the request's body
    to its encoded answer.
    """
    compute = timing.compute_input + timing.compute_infer + timing.compute_output
    return _VALUE % (
        timing.queue / 1e6,
        timing.batch_rows,
        timing.company / 1e6,
        compute / 1e6,
        total / 1e6,
    )
