"""Ports, before anybody listens on them."""

import socket

from serving.errors import ServingError


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
    except OSError as error:
        bound.close()
        raise unavailable(address, port, flag, error) from error
    return bound


def unavailable(address: str, port: int, flag: str, error: OSError) -> ServingError:
    """What is said of a port that cannot be had."""
    return ServingError(
        f"cannot listen on {address}:{port}: {error.strerror}; choose another with {flag}"
    )
