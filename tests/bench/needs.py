"""What a comparison needs of the machine, as marks of the tests that make one."""

import os
import shutil
from typing import Final

import pytest

from bench.load import TOOLS

tools: Final = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"needs {' and '.join(TOOLS)} on the PATH"
)
processors: Final = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two processors, one for the servers and one for the load",
)
