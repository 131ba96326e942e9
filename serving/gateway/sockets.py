"""Ports, before connections are taken from them."""

import errno
import socket
from typing import Final

from serving.acceptor import BACKLOG
from serving.errors import ServingError

_ADDRESSES: Final = {
    "--http-port": "--http-address",
    "--grpc-port": "--grpc-address",
    "--metrics-port": "--metrics-address, or --http-address",
}


def joined(address: str, port: int) -> str:
    """`address:port`, as clients call it: an IPv6 address is in brackets."""
    return f"[{address}]:{port}" if ":" in address and "[" not in address else f"{address}:{port}"


def bind(address: str, port: int, flag: str, reuse: bool = False) -> socket.socket:
    """A socket that has the port, 0 being any free one, on which nobody listens yet.

    With `reuse` others may have it as well. ServingError tells of `flag`, by which the port is
    chosen, where it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address, port))
    except (OSError, UnicodeError) as error:
        bound.close()
        raise unavailable(address, port, flag, error) from error
    return bound


def listen(address: str, port: int, flag: str, reuse: bool = False) -> socket.socket:
    """The same, and it listens."""
    listener = bind(address, port, flag, reuse)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise unavailable(address, port, flag, error) from error
    return listener


def unavailable(address: str, port: int, flag: str, error: Exception) -> ServingError:
    """What is said of a port that cannot be had, whatever bind, asyncio or grpcio raised."""
    is_name = isinstance(error, socket.gaierror | UnicodeError)
    # A UnicodeError speaks of the codec that host names are written by.
    why = None if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
    if is_name or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
        cure = f"name an address of this machine with {_ADDRESSES[flag]}"
    else:
        cure = f"choose another with {flag}"
    return ServingError(
        f"cannot listen on {joined(address, port)}: {why or 'not the name of a host'}; {cure}"
    )
