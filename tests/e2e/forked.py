"""`penstock` commands in processes forked from one that has imported what a server needs.

Importing is most of what the start of a server costs, and hundreds of tests start one. The process
is a server's own all the same, with its arguments, environment, folder, output and exit code.
"""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import TimeoutExpired
from typing import IO, Final

import penstock

IMPORTED: Final = ("serving.command", "serving.engine.embedded", "onnxruntime", "uvloop")


class Forked:
    """A command that runs, with as much of the interface of `subprocess.Popen` as the tests use.

    With `processors` the machine seems to have so many, whatever it has. Raises OSError if no
    process can be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        processors: int | None = None,
    ) -> None:
        context = _context()
        streams = [context.Pipe(duplex=False) for _ in range(2)]
        self._process = context.Process(
            target=_run,
            args=(
                list(arguments),
                str(folder),
                dict(env),
                processors,
                *(written for _, written in streams),
            ),
        )
        self._process.start()
        self.stdout, self.stderr = (_opened(read) for read, _ in streams)
        for _, written in streams:
            written.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired, of subprocess, after `timeout` seconds."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("penstock", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *IMPORTED])
    return context


def _opened(read: Connection) -> IO[str]:
    stream = os.fdopen(os.dup(read.fileno()), encoding="utf-8")
    read.close()
    return stream


def _run(
    arguments: list[str],
    folder: str,
    env: dict[str, str],
    processors: int | None,
    output: Connection,
    errors: Connection,
) -> None:
    if processors is not None:
        cpus = set(range(processors))
        os.sched_getaffinity = lambda pid: cpus
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    output.close()
    errors.close()
    # Buffered as a new interpreter's are where nobody looks on.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["penstock", *arguments]
    try:
        penstock.main()
    finally:
        # As an interpreter does that ends; those of multiprocessing do not.
        atexit._run_exitfuncs()
