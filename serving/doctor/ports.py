"""Whether the ports of the settings are free."""

import errno
import socket
from collections.abc import Iterator

from serving.doctor.findings import Finding, fault, good
from serving.settings import Settings


def ports(settings: Settings) -> Iterator[Finding]:
    """One finding for each port that a server would open; 0 stands for any free one."""
    taken: dict[int, str] = {}
    for name, address, port in _wanted(settings):
        check = f"port of {name}"
        if port and port in taken:
            advice = f"choose another by --{name}-port or --{taken[port]}-port"
            yield fault(check, f"{port} is the port of {taken[port]} as well", advice)
        else:
            taken[port] = name
            yield _port(check, name, address, port)


def _wanted(settings: Settings) -> Iterator[tuple[str, str, int]]:
    if settings.allow_http:
        yield "http", settings.http_address, settings.http_port
    if settings.allow_grpc:
        yield "grpc", settings.grpc_address, settings.grpc_port
    if settings.allow_metrics:
        address = settings.metrics_address or settings.http_address
        yield "metrics", address, settings.metrics_port


def _port(check: str, name: str, address: str, port: int) -> Finding:
    where = f"{address}:{port}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: what a server that has ended left behind does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen()
    except UnicodeError:
        return fault(check, f"{where}: not the name of a host", _address_advice(name))
    except OSError as error:
        return fault(check, f"{where}: {error.strerror}", _advice(error, name, port))
    return good(check, f"{where} is free")


def _advice(error: OSError, name: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"`ss -ltnp sport = :{port}` tells who has it: end that, or choose another by "
            f"--{name}-port"
        )
    if error.errno == errno.EACCES:
        return f"ports below 1024 need a right: choose one above by --{name}-port"
    return _address_advice(name)


def _address_advice(name: str) -> str:
    return f"--{name}-address must be an address of this machine, or 0.0.0.0 for all of them"
