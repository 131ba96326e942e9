"""What each kind of failure is called over HTTP and over gRPC: total tables, ours and Triton's."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import grpc

from serving.errors import Code, Overloaded, ServingError, Unavailable

HTTP_STATUS: Final[dict[Code, int]] = {
    Code.INVALID_ARGUMENT: 400,
    Code.MALFORMED: 400,
    Code.UNFIT_OVERRIDE: 400,
    Code.REGION_TOO_SMALL: 400,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 400,  # as Triton has it
    Code.UNSUPPORTED: 501,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.RESTRICTED: 403,
    Code.UNAVAILABLE: 503,
    Code.OVERLOADED: 429,
    Code.DEADLINE_EXCEEDED: 504,
    Code.CANCELLED: 499,
    Code.LOAD_FAILED: 400,
    Code.INTERNAL: 500,
}

GRPC_STATUS: Final[dict[Code, grpc.StatusCode]] = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Code.UNFIT_OVERRIDE: grpc.StatusCode.INVALID_ARGUMENT,
    Code.REGION_TOO_SMALL: grpc.StatusCode.INVALID_ARGUMENT,
    Code.PAYLOAD_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.RESTRICTED: grpc.StatusCode.UNAVAILABLE,  # as Triton has it
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Code.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.CANCELLED: grpc.StatusCode.CANCELLED,
    Code.LOAD_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
}


class Statuses(NamedTuple):
    """One way to name the failures; both tables are total."""

    http: Mapping[Code, int]
    grpc: Mapping[Code, grpc.StatusCode]


OWN: Final = Statuses(HTTP_STATUS, GRPC_STATUS)

# Where Triton blames itself for what the client wrote, or cannot tell a full queue from a server
# that is not there: for clients that were written against these numbers.
TRITON: Final = Statuses(
    HTTP_STATUS
    | {
        Code.MALFORMED: 500,
        Code.UNFIT_OVERRIDE: 500,
        Code.REGION_TOO_SMALL: 500,
        Code.PAYLOAD_TOO_LARGE: 400,
        Code.LOAD_FAILED: 500,
        Code.OVERLOADED: 503,
        Code.DEADLINE_EXCEEDED: 503,
    },
    GRPC_STATUS
    | {
        Code.UNFIT_OVERRIDE: grpc.StatusCode.INTERNAL,
        Code.REGION_TOO_SMALL: grpc.StatusCode.INTERNAL,
        Code.LOAD_FAILED: grpc.StatusCode.INTERNAL,
        Code.OVERLOADED: grpc.StatusCode.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED: grpc.StatusCode.UNAVAILABLE,
    },
)


def statuses(like_triton: bool) -> Statuses:
    """Triton's own statuses (`--triton-status-codes`), or ours."""
    return TRITON if like_triton else OWN


def retry_after(error: ServingError) -> float | None:
    """The seconds after which a client is told to try again; None: it is told nothing of it."""
    if isinstance(error, Overloaded):
        return error.retry_after or 0.0
    return error.retry_after if isinstance(error, Unavailable) else None
