"""What a Triton server's statuses and words mean in the core's terms."""

from collections.abc import Callable, Mapping
from typing import Final

import grpc

from serving.errors import (
    AlreadyExists,
    Cancelled,
    Code,
    DeadlineExceeded,
    Decoupled,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    ServingError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from serving.statistics import ServerFailure

# Seconds after which a new attempt has a chance: a lost server is looked for every second.
RETRY_AFTER: Final = 1.0

_Kind = Callable[[str], ServingError]

_STATUSES: Final[Mapping[grpc.StatusCode, _Kind]] = {
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidArgument,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: PayloadTooLarge,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}
_REASONS: Final[Mapping[Code, ServerFailure]] = {
    Code.DEADLINE_EXCEEDED: ServerFailure.LATE,
    Code.INTERNAL: ServerFailure.FAILED,
    Code.OVERLOADED: ServerFailure.REFUSED,
    Code.UNAVAILABLE: ServerFailure.FAILED,
}
_UNKNOWN_MODEL: Final = "Request for unknown model"
# What Triton has one status for, and we have several; and what streams say without any status.
_WORDS: Final[tuple[tuple[str, _Kind], ...]] = (
    ("doesn't support models with decoupled transaction policy", Decoupled),
    ("Exceeds maximum queue size", Overloaded),
    ("Request timeout expired", DeadlineExceeded),
    ("is not at ready state", Unavailable),
    (_UNKNOWN_MODEL, NotFound),
)
# gRPC's own words where there is no connection: nothing of the call was sent.
_UNCONNECTED: Final = ("failed to connect to all addresses", "DNS resolution failed")
# What the servers of gRPC's retry policy say of the time to wait, in milliseconds.
_PUSHBACK: Final = "grpc-retry-pushback-ms"


class Untouched(Exception):
    """A call that failed before anything can have been executed, so that another may be tried.

    `error` is what to tell where there is no other; `unconnected` says, in gRPC's words, why there
    was no connection, and is empty where there was one.
    """

    def __init__(self, error: ServingError, unconnected: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.unconnected = unconnected


def of_call(failure: grpc.aio.AioRpcError) -> ServingError | Untouched:
    """What became of a call that ended with a status."""
    details = failure.details() or failure.code().name
    if failure.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_UNCONNECTED):
        return Untouched(nobody(), details)
    if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        wait = _pushback(failure)
        if wait is not None:  # and it was not the size that was too much
            return Overloaded(details, wait)
    return _judged(_of_words(details) or _STATUSES.get(failure.code(), Internal)(details))


def of_stream(message: str) -> ServingError | Untouched:
    """What became of a request on a stream, of which there are words only.

    So it is with requests that did not reach the model: it was they that were wrong.
    """
    return _judged(_of_words(message) or InvalidArgument(message))


def nobody() -> Unavailable:
    """The error where no server can be asked."""
    return Unavailable("no Triton server answers at the moment", RETRY_AFTER)


def reason(failure: ServingError | Untouched) -> ServerFailure | None:
    """Why the server did not do what it was asked; None where that is the caller's fault."""
    if isinstance(failure, Untouched):
        return ServerFailure.UNREACHABLE if failure.unconnected else ServerFailure.REFUSED
    return _REASONS.get(failure.code)


def _pushback(failure: grpc.aio.AioRpcError) -> float | None:
    """The seconds to wait, if the server says so; 0: none."""
    told = dict(failure.trailing_metadata() or ()).get(_PUSHBACK)
    return int(told) / 1000 if isinstance(told, str) and told.isdecimal() else None


def _judged(error: ServingError) -> ServingError | Untouched:
    unserved = isinstance(error, NotFound | Unavailable)
    if unserved and error.message.startswith(_UNKNOWN_MODEL):
        # A server that stops, or begins, says so of all its models.
        return Untouched(error)
    return error


def _of_words(message: str) -> ServingError | None:
    return next((kind(message) for words, kind in _WORDS if words in message), None)
