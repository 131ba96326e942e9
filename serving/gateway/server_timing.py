"""What a client is told of where its time went: Server-Timing, as W3C has it, by any protocol."""

from typing import Final

from serving.types import Timing

# gRPC spells names in lower case; HTTP does not mind.
NAME: Final = "server-timing"


def server_timing(timing: Timing, total: int) -> str:
    """The value of the header: durations in milliseconds, and the rows of the batch.

    `queue` is the wait until the batch ran; `batch`, a part of it, that for more requests while an
    instance was free; `compute` the execution. `total` nanoseconds passed from the request's body
    to its encoded answer.
    """
    compute = timing.compute_input + timing.compute_infer + timing.compute_output
    return (
        f"queue;dur={timing.queue / 1e6:.3f}, "
        f'batch;desc="{timing.batch_rows} rows";dur={timing.company / 1e6:.3f}, '
        f"compute;dur={compute / 1e6:.3f}, total;dur={total / 1e6:.3f}"
    )
