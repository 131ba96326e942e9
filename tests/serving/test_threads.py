"""The processors that a container really has, whatever its host counts."""

import os
from pathlib import Path

import pytest

from serving import threads


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process on 8 processors, whose control group's files are in the folder returned."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(threads, "_CGROUP_V1_QUOTA", tmp_path / "cpu.cfs_quota_us")
    monkeypatch.setattr(threads, "_CGROUP_V1_PERIOD", tmp_path / "cpu.cfs_period_us")
    return tmp_path


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
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_the_quota_of_a_control_group_is_kept(host: Path, quota: str, count: int) -> None:
    (host / "cpu.max").write_text(f"{quota}\n")
    assert threads.available_cpus() == count


@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("300000", 3), ("100", 1)])
def test_the_first_version_of_control_groups_is_understood_too(
    host: Path, quota: str, count: int
) -> None:
    (host / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (host / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.available_cpus() == count


def test_where_processes_have_no_affinity_the_hosts_count_holds(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_cpus() == 6
