"""Processes that cannot be had: at a start that says why, later on they are asked for again."""

import subprocess
import sys
from typing import Final

# Of its forks, the given one fails, as where a container may have no more processes. The first
# child ends at once, and the next one ends the server.
_SERVER: Final = """
import errno, logging, os, signal, sys
from serving.supervision.supervisor import Supervisor

logging.basicConfig(level=logging.INFO)
forks, fork = 0, os.fork

def forked():
    global forks
    forks += 1
    if forks == int(sys.argv[1]):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

def role(report):
    report("live", "")
    report("ready", "")
    if forks > 1:
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()

os.fork = forked
Supervisor({"engine": role}, lambda: None, print).run()
"""


def supervised(failing: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _SERVER, str(failing)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_where_a_process_cannot_be_replaced_at_once_it_is_tried_again() -> None:
    done = supervised(2)
    assert done.returncode == 0, done.stderr
    assert "the engine cannot be started, trying again: Resource temporarily" in done.stderr
    assert "stopped" in done.stderr


def test_a_start_without_a_process_says_why() -> None:
    done = supervised(1)
    assert done.returncode == 1
    assert "ServingError: the engine cannot be started: Resource temporarily" in done.stderr
