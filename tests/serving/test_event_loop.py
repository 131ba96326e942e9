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
