"""Processes that cannot be had are asked for again, and those that hang are replaced."""

import re
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

def role(report, pulse):
    report("live", "")
    report("ready", "")
    if forks > 1:
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()

os.fork = forked
Supervisor({"engine": role}, lambda: None, print, patience=0).run()
"""
# The first engine stops its event loop for good, the second one for less than is waited for.
_HANGING: Final = """
import asyncio, logging, mmap, os, signal, time
from serving.supervision.supervisor import Supervisor

logging.basicConfig(level=logging.INFO)
started = mmap.mmap(-1, 1)

async def hang(seconds):
    await asyncio.sleep(1.5)
    time.sleep(seconds)

def role(report, pulse):
    report("live", "")
    report("ready", "")
    is_first, started[0] = not started[0], 1
    asyncio.run(pulse.during(hang(3600 if is_first else 1)))
    os.kill(os.getppid(), signal.SIGTERM)
    # Whose event loop has ended does not hang.
    time.sleep(4)

Supervisor({"engine": role}, lambda: None, print, patience=3).run()
"""
# All processes are stopped, for longer than any is waited for, and go on, the supervisor first.
_SUSPENDED: Final = """
import asyncio, logging, os, signal, subprocess, time
from serving.supervision.supervisor import Supervisor

logging.basicConfig(level=logging.INFO)

async def suspend():
    own, parent = os.getpid(), os.getppid()
    await asyncio.sleep(1.7)
    go_on = f"kill -CONT {parent}; sleep 0.5; kill -CONT {own}"
    subprocess.Popen(["sh", "-c", f"kill -STOP {own} {parent}; sleep 5; {go_on}"])
    await asyncio.sleep(7)

def role(report, pulse):
    report("live", "")
    report("ready", "")
    # Its beats come half-way between two looks at them, and the stop behind a look.
    time.sleep(0.5)
    asyncio.run(pulse.during(suspend()))
    os.kill(os.getppid(), signal.SIGTERM)

Supervisor({"engine": role}, lambda: None, print, patience=4).run()
"""


def supervised(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_where_a_process_cannot_be_replaced_at_once_it_is_tried_again() -> None:
    done = supervised(_SERVER, "2")
    assert done.returncode == 0, done.stderr
    assert "the engine cannot be started, trying again: Resource temporarily" in done.stderr
    assert "stopped" in done.stderr


def test_a_start_without_a_process_says_why() -> None:
    done = supervised(_SERVER, "1")
    assert done.returncode == 1
    assert "ServingError: the engine cannot be started: Resource temporarily" in done.stderr


def test_a_process_that_hangs_says_where_and_is_replaced() -> None:
    done = supervised(_HANGING)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"has not turned its event loop for \d s: killing it", done.stderr)) == 1
    assert len(re.findall(r"ended: signal SIGKILL; starting another", done.stderr)) == 1
    assert re.search(r'File "<string>", line \d+ in hang\n', done.stderr)


def test_while_all_processes_are_suspended_nothing_counts() -> None:
    done = supervised(_SUSPENDED)
    assert done.returncode == 0, done.stderr
    assert "stopped" in done.stderr
    assert "has not turned" not in done.stderr
