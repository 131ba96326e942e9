"""Processor time is counted over a whole tree of processes, and pinning is inherited."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.machine import Unavailable, busy_seconds, cores, cpu_seconds, pinned, tree

BURNT = 0.2  # seconds of processor time
# Starts a child that computes in a thread, then both wait for the end of standard input.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""
CHILD = f"""
import os, sys, threading, time
def burn():
    while time.process_time() < {BURNT}: pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
print(os.getpid(), sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""


@contextmanager
def family() -> Iterator[tuple[int, int, str]]:
    """A process with a busy child: the ids of both, and the processors that the child may use."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        child, _, allowed = process.stdout.readline().strip().partition(" ")
        yield process.pid, int(child), allowed


def test_the_time_of_a_server_includes_what_its_children_and_ended_threads_computed() -> None:
    with family() as (parent, child, _):
        assert tree(parent) == [parent, child]
        assert cpu_seconds(child) >= BURNT
        assert cpu_seconds(parent) >= cpu_seconds(child)


def test_processes_that_are_started_while_pinned_stay_on_that_processor() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)

    with pinned(core), family() as (_, _, allowed):
        assert allowed == f"[{core}]"

    assert os.sched_getaffinity(0) == before


def test_a_processor_that_does_not_exist_is_named() -> None:
    assert busy_seconds(max(os.sched_getaffinity(0))) > 0
    with pytest.raises(Unavailable, match="has no processor 99999"):
        busy_seconds(99999)


def test_servers_and_load_get_a_processor_each() -> None:
    with pinned(max(os.sched_getaffinity(0))), pytest.raises(Unavailable, match="two processors"):
        cores()
