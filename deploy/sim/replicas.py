"""Three real servers of Penstock, which can be stopped, killed, frozen, and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.machine import Unavailable
from bench.peers.base import QUIET, ROOT, answers
from deploy.sim.network import REPLICAS, Network

MODEL: Final = "mnist-cnn"
# Answering on after SIGTERM, for longer than Envoy's health checks need to notice.
GRACE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 60.0
START_SECONDS: Final = 120.0


class Replica:
    """A place where a server runs, or does not."""

    def __init__(self, number: int, network: Network, log: Path) -> None:
        self.number = number
        address, ports = network.place(number)
        self._ready = f"http://{address}:{ports['metrics']}/v2/health/ready"
        self._log = log
        self._command = [
            *network.inside(number),
            *(sys.executable, "-m", "penstock", "serve"),
            *(f"--model-repository={ROOT / 'model_repository'}", f"--load-model={MODEL}"),
            "--model-control-mode=explicit",
            *(f"--{protocol}-address={address}" for protocol in ports),
            *(f"--{protocol}-port={port}" for protocol, port in ports.items()),
            f"--exit-grace-secs={GRACE_SECONDS}",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Begin to start; Envoy finds out when it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | QUIET
            )

    def is_ready(self) -> bool:
        """Whether it says so itself; Unavailable if it has ended."""
        if self._process is None or self._process.poll() is not None:
            raise Unavailable(f"a replica ended; it said:\n{self._log.read_text()[-2000:]}")
        return answers(self._ready)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(STOP_SECONDS)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is None or self._process.poll() is not None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(network: Network, folder: Path) -> Iterator[list[Replica]]:
    """All replicas, once they are ready, until the block ends; their logs lie in `folder`."""
    with ExitStack() as stack:
        made = [
            Replica(number, network, folder / f"replica-{number}.log") for number in range(REPLICAS)
        ]
        for replica in made:
            stack.callback(replica.close)
            replica.start()
        deadline = time.monotonic() + START_SECONDS
        while not all(replica.is_ready() for replica in made):
            if time.monotonic() > deadline:
                raise Unavailable(f"the replicas were not ready within {START_SECONDS:.0f} s")
            time.sleep(0.05)
        yield made
