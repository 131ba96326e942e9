"""What an HTTP client gets in the end, whichever way its request came in."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from serving.errors import (
    UNEXPECTED,
    Code,
    Decoupled,
    ServingError,
    Unauthenticated,
    UnknownEncoding,
)
from serving.gateway import body, server_timing
from serving.gateway.errors import retry_after
from serving.wire import rest_documents as documents
from serving.wire.rest_answers import Buffer

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"


class Answer(Struct, frozen=True):
    """A response before it is a framework's object; `headers` are those beside type and length.

    `tensors` are large ones that follow `content`, where they lie.
    """

    content: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = {}
    tensors: Sequence[Buffer] = ()


def of_error(error: ServingError, status: Mapping[Code, int]) -> Answer:
    """The answer to an error of the core, by that table."""
    headers = dict(server_timing.of_failure(error))
    if (wait := retry_after(error)) is not None:
        # In whole seconds, of which none would be no advice.
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Decoupled):
        error = Decoupled.asked_over("HTTP end point")
    if isinstance(error, UnknownEncoding):
        headers["Accept-Encoding"] = body.ACCEPTED_ENCODINGS
    return Answer(documents.error(error.message), status[error.code], headers=headers)


# What is said of a bug of ours; the log has the rest.
BUG: Final = Answer(documents.error(UNEXPECTED), 500)
