"""Where the replicas are: a network namespace for each, or an address of the loopback device.

With namespaces the whole simulation runs in one of its own, which a wire (a veth pair) joins to
each replica's: ports are free, nobody outside is disturbed, and a partition is a wire that is
pulled. They need Linux, iproute2, and root or user namespaces. Elsewhere the replicas listen on
127.0.0.2 to 127.0.0.4, and there is no partition.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NoReturn, Protocol

from bench.machine import Unavailable
from bench.peers.base import free_ports

REPLICAS: Final = 3
PROTOCOLS: Final = ("http", "grpc", "metrics")
# Says to the program that it is already in a namespace of its own.
_INSIDE: Final = "PENSTOCK_SIM_INSIDE"
_USUAL: Final = dict(zip(PROTOCOLS, (8000, 8001, 8002), strict=True))


class NoWire(Unavailable):
    """Nothing to cut."""


class Network(Protocol):
    """The machines of the replicas, numbered from 0, and the wires to them."""

    name: str
    # Of Envoy: rest, grpc and admin, all on 127.0.0.1.
    front: tuple[int, int, int]

    def inside(self, replica: int) -> list[str]:
        """What a command line begins with, to run where that replica is."""

    def place(self, replica: int) -> tuple[str, dict[str, int]]:
        """The address and the ports of a replica; the ports are those of all."""

    def cut(self, replica: int) -> None:
        """From now on nothing gets there or back, and nobody is told; NoWire if there is none."""

    def mend(self, replica: int) -> None:
        """Everything gets through again."""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


def allowed() -> bool:
    """Whether network namespaces, and wires between them, can be made here."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    wire = ["ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]
    return not subprocess.run([*_unshare(), *wire], capture_output=True, check=False).returncode


def is_own() -> bool:
    """Whether this process has been started by `enter`."""
    return _INSIDE in os.environ


def enter(arguments: Sequence[str]) -> NoReturn:
    """Become the same program, in a network namespace of its own."""
    command = [*_unshare(), sys.executable, "-m", "deploy.sim", *arguments]
    os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})


class Namespaces:
    """A namespace for each replica; Envoy and the clients are in this process's."""

    name = "network namespaces, joined by veth pairs"
    front = (8000, 8001, 9901)

    def __init__(self, holders: Sequence[int]) -> None:
        self._holders = holders

    def inside(self, replica: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holders[replica]}/ns/net"]

    def place(self, replica: int) -> tuple[str, dict[str, int]]:
        return f"10.77.{replica}.2", dict(_USUAL)

    def cut(self, replica: int) -> None:
        _run(*self.inside(replica), "ip", "link", "set", "wire", "down")

    def mend(self, replica: int) -> None:
        _run(*self.inside(replica), "ip", "link", "set", "wire", "up")

    def join(self, replica: int) -> None:
        """Lay the wire to a replica's namespace."""
        near, inside = f"wire{replica}", self.inside(replica)
        _run(*("ip", "link", "add", near, "type", "veth", "peer", "name", f"far{replica}"))
        _run("ip", "link", "set", f"far{replica}", "netns", str(self._holders[replica]))
        _run("ip", "addr", "add", f"10.77.{replica}.1/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        _run(*inside, "ip", "link", "set", f"far{replica}", "name", "wire")
        _run(*inside, "ip", "addr", "add", f"10.77.{replica}.2/30", "dev", "wire")
        for device in ("wire", "lo"):
            _run(*inside, "ip", "link", "set", device, "up")


class Loopback:
    """An address of the loopback device for each replica."""

    name = "loopback addresses (network namespaces are not allowed here)"

    def __init__(self) -> None:
        rest, grpc, admin, *ports = free_ports(3 + len(PROTOCOLS))
        self.front = (rest, grpc, admin)
        self._ports = dict(zip(PROTOCOLS, ports, strict=True))

    def inside(self, replica: int) -> list[str]:
        return []

    def place(self, replica: int) -> tuple[str, dict[str, int]]:
        return f"127.0.0.{2 + replica}", self._ports

    def cut(self, replica: int) -> None:
        raise NoWire("without network namespaces there is no wire to pull")

    def mend(self, replica: int) -> None:
        """Nothing was cut."""


@contextmanager
def network() -> Iterator[Network]:
    """The network for the block: namespaces if this process is in one of its own."""
    with ExitStack() as stack:
        if not is_own():
            yield Loopback()
            return
        _run("ip", "link", "set", "lo", "up")
        holders = [stack.enter_context(_holder()) for _ in range(REPLICAS)]
        made = Namespaces(holders)
        for replica in range(REPLICAS):
            made.join(replica)
        yield made


@contextmanager
def _holder() -> Iterator[int]:
    """A process whose only business is a network namespace; its pid once that is there."""
    # In it is written when unshare has done its work; the namespace ends with `cat`.
    command = ["unshare", "--net", "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()
