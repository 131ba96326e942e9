"""What can go wrong, in the core's own terms; no web and no wire in it.

    ServingError                 carries a Code
    ├── InvalidArgument          the request contradicts itself, the model or the protocol
    │   ├── Malformed            a document that is not of the form that the protocol gives it
    │   ├── UnfitOverride        what a load brought along cannot be served
    │   └── RegionTooSmall       an output does not fit into the shared memory that it shall go to
    ├── PayloadTooLarge          the request exceeds a size limit of the server
    ├── NotFound                 no such model, version or region
    ├── AlreadyExists            the name is taken
    ├── Unsupported              valid in the protocol, not offered by this server
    │   ├── Decoupled            one response asked of a model that gives any number of them
    │   └── UnknownEncoding      a body that is packed as none is unpacked here
    ├── Unauthenticated          who the caller is has not been shown
    ├── PermissionDenied         the caller may not do this
    ├── Restricted               asked for without the header that opens it
    ├── Unavailable              the model or the server does not answer requests now
    ├── Overloaded               refused to protect the requests already accepted
    ├── DeadlineExceeded         the caller's time was up before an answer existed
    ├── Cancelled                the caller has gone
    ├── LoadFailed               a model version could not be made ready
    │   └── Elsewhere            no instance of it is in this process, but in others of this server
    └── Internal                 our fault, or the model's

Every error is raised once, here in the core; each protocol maps `Code` to its own status by one
total table (`gateway.errors`).
"""

import copy
from enum import Enum, unique
from typing import ClassVar, Final, Self

# What a client is told of a bug of ours, by any protocol.
UNEXPECTED: Final = "internal error; see the server's log"


@unique
class Code(Enum):
    """The kind of a failure; each protocol's status follows from it."""

    INVALID_ARGUMENT = "invalid argument"
    MALFORMED = "malformed"
    UNFIT_OVERRIDE = "unfit override"
    REGION_TOO_SMALL = "region too small"
    PAYLOAD_TOO_LARGE = "payload too large"
    NOT_FOUND = "not found"
    ALREADY_EXISTS = "already exists"
    UNSUPPORTED = "unsupported"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission denied"
    RESTRICTED = "restricted"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    DEADLINE_EXCEEDED = "deadline exceeded"
    CANCELLED = "cancelled"
    LOAD_FAILED = "load failed"
    INTERNAL = "internal"


class ServingError(Exception):
    """A failure with a message fit for the client that caused it."""

    code: ClassVar[Code] = Code.INTERNAL
    # Nanoseconds from an infer request's body to this failure of it; None: not told.
    took: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def labelled(self, label: str) -> Self:
        """The same failure, with `label` before its message."""
        other = copy.copy(self)
        other.message = label + self.message
        other.args = (other.message,)
        return other


class InvalidArgument(ServingError):
    """The request contradicts itself, the model's signature or the protocol."""

    code = Code.INVALID_ARGUMENT


class Malformed(InvalidArgument):
    """A document is none, or a member of it is missing or of another type than it must be."""

    code = Code.MALFORMED


class UnfitOverride(InvalidArgument):
    """The configuration or the files that a load brought along cannot be served."""

    code = Code.UNFIT_OVERRIDE


class RegionTooSmall(InvalidArgument):
    """An output does not fit into the shared memory that the request has it go to."""

    code = Code.REGION_TOO_SMALL


class PayloadTooLarge(ServingError):
    """The request's body or message is larger than the server accepts."""

    code = Code.PAYLOAD_TOO_LARGE


class NotFound(ServingError):
    """No model, version or region of that name."""

    code = Code.NOT_FOUND


class AlreadyExists(ServingError):
    """Something of that name is there already."""

    code = Code.ALREADY_EXISTS


class Unsupported(ServingError):
    """The protocol knows it; this server does not offer it."""

    code = Code.UNSUPPORTED


class Decoupled(Unsupported):
    """One response was asked of a model that gives any number of them."""

    @classmethod
    def asked_over(cls, way: str) -> Self:
        """The error in Triton's words, of which the way of asking is the first."""
        return cls(f"{way} doesn't support models with decoupled transaction policy")


class UnknownEncoding(Unsupported):
    """The body is packed in a way that this server does not unpack."""


class Unauthenticated(ServingError):
    """An API key is needed; there is none, or it is not known."""

    code = Code.UNAUTHENTICATED


class PermissionDenied(ServingError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED


class Restricted(ServingError):
    """Restricted to those who send a certain header, which the message names."""

    code = Code.RESTRICTED


class Unavailable(ServingError):
    """The model or the server does not answer requests at the moment.

    `retry_after` is in seconds: when a new attempt has a chance; None while nobody knows.
    """

    code = Code.UNAVAILABLE

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(ServingError):
    """Refused at once, so that the requests already accepted keep their time.

    `retry_after` is in seconds: when a new attempt has a chance; None while nobody knows.
    """

    code = Code.OVERLOADED

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(ServingError):
    """The caller's deadline, or the queue's timeout, passed before the request ran."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(ServingError):
    """The caller went away before an answer existed."""

    code = Code.CANCELLED


class Internal(ServingError):
    """The model's execution failed, or the server has a bug."""

    code = Code.INTERNAL


class LoadFailed(ServingError):
    """A model version could not be made ready to serve; the message says why and the cure."""

    code = Code.LOAD_FAILED


class Elsewhere(LoadFailed):
    """All of a model's instances are on GPUs that other processes of this server drive."""
