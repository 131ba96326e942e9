"""The core's errors as plain values, and back."""

from typing import Final

from serving import errors
from serving.errors import ServingError
from serving.workers.channel import Message

_KINDS: Final = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ServingError)
}


def from_error(error: ServingError) -> Message:
    """The error as plain values; what an engine knows more exactly is of a class known to all."""
    known = next(kind for kind in type(error).__mro__ if kind in _KINDS.values())
    return known.__name__, error.message, getattr(error, "retry_after", None)


def to_error(values: Message) -> ServingError:
    """The error of which `from_error` told."""
    name, message, retry_after = values
    error = _KINDS[name](message)
    if isinstance(error, errors.Overloaded | errors.Unavailable):
        error.retry_after = retry_after
    return error
