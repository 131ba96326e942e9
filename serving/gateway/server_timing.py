"""What a client is told of where its time went: Server-Timing, as W3C has it, by any protocol."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from serving.errors import ServingError
from serving.types import InferenceResponse, Timing

# gRPC spells names in lower case; HTTP does not mind.
NAME: Final = "server-timing"

# Written for every answer, for which an f-string takes twice as long.
_VALUE: Final = 'queue;dur=%.3f, batch;desc="%d rows";dur=%.3f, compute;dur=%.3f, total;dur=%.3f'

_TOTAL: Final = "total;dur=%.3f"


def headers(response: InferenceResponse, began: int) -> Mapping[str, str]:
    """The header of an answer that is encoded now, for a request whose body was there at `began`.

    None where the response does not say how long it took. Nanoseconds of the monotonic clock.
    """
    if response.timing is None:
        return {}
    return {"Server-Timing": server_timing(response.timing, time.monotonic_ns() - began)}


@contextmanager
def failures_since(began: int) -> Iterator[None]:
    """What is refused, or fails, in the block knows how long that took since `began`."""
    try:
        yield
    except ServingError as error:
        error.took = time.monotonic_ns() - began
        raise


def of_failure(error: ServingError) -> Mapping[str, str]:
    """The header of an answer to a request that failed, if the error knows how long it took."""
    return {} if error.took is None else {NAME: _TOTAL % (error.took / 1e6)}


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
