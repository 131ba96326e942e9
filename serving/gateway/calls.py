"""What all gRPC methods share: bytes to a message, failures to a status, a line of the log."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from serving.errors import UNEXPECTED, Code, InvalidArgument, ServingError
from serving.gateway import server_timing
from serving.gateway.access import Access, is_logged
from serving.gateway.errors import GRPC_STATUS, Statuses, retry_after

logger = logging.getLogger("penstock.grpc")

# A message quotes what the client sent; in a header that grows too long, gRPC would refuse the
# whole answer.
_MAX_DETAILS: Final = 4096

_CANCELLED: Final = GRPC_STATUS[Code.CANCELLED]

Context: TypeAlias = grpc.aio.ServicerContext
Read: TypeAlias = Callable[[bytes], Any]
Method: TypeAlias = Callable[[Any, Context], Awaitable[Message | bytes]]


def unary(
    name: str, method: Method, request_type: type[Message], read: Read, statuses: Statuses
) -> Any:
    """`method` as a gRPC handler: parses the message itself, turns every failure into a status.

    `read` makes a request of bytes, or raises DecodeError where these are no `request_type`.
    """

    async def call(content: bytes, context: Context) -> bytes | None:
        began, status, told = time.monotonic_ns(), _CANCELLED, ""
        message = None
        try:
            message = parse(request_type, content, read)
            reply = await method(message, context)
            status = grpc.StatusCode.OK
            return reply if isinstance(reply, bytes) else reply.SerializeToString()
        except ServingError as error:
            status, told = statuses.grpc[error.code], error.message
            await abort(context, error, statuses)
        except Exception as error:
            logger.exception("%s failed", name, exc_info=error)
            status, told = GRPC_STATUS[Code.INTERNAL], UNEXPECTED
            await context.abort(status, UNEXPECTED)
        finally:
            if is_logged():
                model = getattr(message, "model_name", "") or getattr(message, "name", "")
                Access("grpc", name, status.name, model, told, began, context.peer()).log()
        return None

    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=None, response_serializer=None
    )


def parse(request_type: type[Message], content: bytes, read: Read | None = None) -> Any:
    """The message in `content`, by `read` if given; InvalidArgument where there is none."""
    try:
        message = (read or request_type.FromString)(content)
    except DecodeError as error:
        raise InvalidArgument(
            f"the message is not a valid {request_type.DESCRIPTOR.full_name}: {error}"
        ) from None
    return message


def serialize(message: Message | bytes) -> bytes:
    """The bytes of a message, which it may be already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def deadline(context: Context) -> int | None:
    """When the caller stops waiting, on the monotonic clock in nanoseconds; None: never."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic_ns() + int(remaining * 1e9)


async def abort(context: Context, error: ServingError, statuses: Statuses) -> None:
    """End the call with the status of `error`; does not return."""
    trailer = tuple(server_timing.of_failure(error).items())
    if (wait := retry_after(error)) is not None:
        # What gRPC's retry policy reads; the counterpart of HTTP's Retry-After.
        trailer += (("grpc-retry-pushback-ms", str(max(1, int((wait or 1) * 1000)))),)
    await context.abort(statuses.grpc[error.code], error.message[:_MAX_DETAILS], trailer)
