"""The processors that a container really has, whatever its host counts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving import threads
from serving.threads import Processors


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process on 8 processors, whose control groups' files are below the folder returned."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "PROC", tmp_path)
    monkeypatch.setattr(threads, "_MOUNTS_V1", (tmp_path / "cpu",))
    monkeypatch.setattr(threads, "_MOUNTS_V2", (tmp_path / "unified",))
    return tmp_path


def limit(folder: Path, quota: str) -> None:
    """As the second version of control groups writes it down."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{quota}\n")


def own(host: Path, groups: str) -> None:
    """The groups that the process is in."""
    (host / "self").mkdir()
    (host / "self" / "cgroup").write_text(groups)


def limit_v1(folder: Path, quota: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")


def test_processes_that_compute_beside_each_other_share_the_quota(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_SHARERS", [1])
    limit(host / "unified", "600000 100000")
    threads.share_quota(3)
    assert threads.processors() == Processors(8, 2.0)


def test_without_a_control_group_the_affinity_counts(host: Path) -> None:
    assert threads.available_cpus() == 8


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),  # whole ones
        ("50000 100000", 1),  # at least one
        ("3200000 100000", 8),  # no more than there are
        ("100000 0", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_the_quota_of_a_control_group_is_kept(host: Path, quota: str, count: int) -> None:
    limit(host / "unified", quota)
    assert threads.available_cpus() == count


@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("300000", 3), ("100", 1)])
def test_the_first_version_of_control_groups_is_understood_too(
    host: Path, quota: str, count: int
) -> None:
    limit_v1(host / "cpu", quota)
    assert threads.available_cpus() == count


def test_a_service_is_limited_by_its_own_group_and_by_those_around_it(host: Path) -> None:
    own(host, "0::/system.slice/penstock.service\n")
    limit(host / "unified/system.slice/penstock.service", "500000 100000")
    assert threads.available_cpus() == 5
    limit(host / "unified/system.slice", "300000 100000")
    assert threads.available_cpus() == 3
    limit(host / "unified/user.slice", "100000 100000")
    assert threads.available_cpus() == 3


def test_the_group_is_found_by_its_controller_in_the_first_version(host: Path) -> None:
    own(host, "5:memory:/elsewhere\n4:cpu,cpuacct:/jobs/a:b\n0::/\n")
    limit_v1(host / "cpu/jobs/a:b", "400000")
    limit_v1(host / "cpu/elsewhere", "100000")
    assert threads.available_cpus() == 4


def test_a_container_that_is_told_the_hosts_path_finds_its_group_where_it_is_mounted(
    host: Path,
) -> None:
    own(host, "0::/docker/0123\n")
    limit(host / "unified", "200000 100000")
    assert threads.available_cpus() == 2


def test_where_processes_have_no_affinity_the_hosts_count_holds(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_cpus() == 6


@pytest.mark.parametrize(("count", "for_models"), [(1, 1), (2, 1), (8, 7)])
def test_one_processor_is_left_to_the_gateway_where_there_are_several(
    count: int, for_models: int
) -> None:
    assert Processors(count, None).for_models == for_models


def test_the_budget_is_told_with_what_it_comes_from() -> None:
    assert str(Processors(8, 2.5)) == "2 (affinity to 8, a quota of 2.5)"
    assert str(Processors(8, None)) == "8 (affinity to 8, no quota)"


LEAVES = """
import atexit, sys, threading
from serving import threads

atexit.register(print, "the end")
if "busy" in sys.argv:
    threading.Thread(target=threading.Event().wait).start()
threads.leave(int(sys.argv[2]))
"""


@pytest.mark.parametrize("state", ["busy", "idle"])
@pytest.mark.parametrize("code", [0, 3])
def test_a_process_leaves_what_still_runs_in_other_threads(state: str, code: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LEAVES, state, str(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (code, "the end\n")
