"""Each of several processes computes on processors of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from serving.cores import share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has affinities")


@pytest.mark.parametrize(
    ("cpus", "of", "shares"),
    [
        ([0, 4, 1, 5], 2, [[0, 4], [1, 5]]),
        (range(5), 2, [[0, 1], [2, 3, 4]]),
        ([7], 3, [[7], [7], [7]]),
        ([2, 3], 3, [[2], [2], [3]]),
    ],
)
def test_processors_are_shared_out_in_their_order(
    cpus: Sequence[int], of: int, shares: list[list[int]]
) -> None:
    assert [list(share(cpus, index, of)) for index in range(of)] == shares


def test_a_process_keeps_to_its_share_of_what_it_may_use() -> None:
    code = "import os; from serving import cores; "
    code += "cores.keep_to_share({}, 2); print(*os.sched_getaffinity(0))"
    shares = []
    for index in range(2):
        command = [sys.executable, "-c", code.format(index)]
        shares.append(set(map(int, subprocess.check_output(command).split())))
    assert shares[0] | shares[1] == os.sched_getaffinity(0)
    assert len(os.sched_getaffinity(0)) == 1 or not shares[0] & shares[1]
