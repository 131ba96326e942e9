"""What a process of the server changes of Python as its event loop begins."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
from serving import event_loop
async def main():
    print(sys.getswitchinterval())
event_loop.run(main())
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two processors",
)
@pytest.mark.parametrize(("processors", "seconds"), [(1, 0.005), (2, 0.0001)])
def test_a_batch_gets_python_soon_where_a_processor_waits_for_it(
    processors: int, seconds: float
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(processors)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert float(told.stdout) == pytest.approx(seconds)


STUCK = """
import asyncio, os, threading
from serving import event_loop, threads

entered, (silent, _), ended = threading.Event(), os.pipe(), []

def listen():
    entered.set()
    os.read(silent, 1)

async def last():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.to_thread(ended.append, True)

async def main():
    global kept
    kept = [asyncio.create_task(asyncio.to_thread(listen)), asyncio.create_task(last())]
    while not entered.is_set():
        await asyncio.sleep(0)

event_loop.run(main())
print("ended", ended)
threads.leave(0)
"""


def test_a_thread_that_waits_for_what_does_not_answer_holds_up_no_end() -> None:
    command = [sys.executable, "-c", STUCK]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    # What the tasks that are cancelled then ask for is still done.
    assert told.stdout == "ended [True]\n"
