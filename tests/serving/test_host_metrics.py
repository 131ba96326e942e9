"""The host's gauges come from its own figures, and from none where there are none."""

from pathlib import Path

import pytest

from serving.host_metrics import HostMetrics

STAT = "cpu  {busy} 0 0 {idle} 10 0 0 0 7 7\ncpu0 1 2 3 4\n"
MEMORY = "MemTotal:       1000 kB\nMemAvailable:   400 kB\nHugePages_Total: 0\n"


def write(proc: Path, busy: int, idle: int) -> None:
    (proc / "stat").write_text(STAT.format(busy=busy, idle=idle))
    (proc / "meminfo").write_text(MEMORY)


def read(metrics: HostMetrics) -> dict[str, float]:
    samples = [sample for family in metrics.collect() for sample in family.samples]
    assert all(sample.labels == {} for sample in samples)
    return {sample.name: sample.value for sample in samples}


def test_processors_are_as_busy_as_since_the_scrape_before(tmp_path: Path) -> None:
    write(tmp_path, busy=40, idle=50)
    metrics = HostMetrics(tmp_path)
    assert read(metrics)["nv_cpu_utilization"] == pytest.approx(0.4)
    write(tmp_path, busy=70, idle=60)
    assert read(metrics)["nv_cpu_utilization"] == pytest.approx(0.75)
    assert read(metrics)["nv_cpu_utilization"] == 0.0


def test_what_is_sampled_is_read_again_once_it_is_half_as_old_as_it_may_be(tmp_path: Path) -> None:
    write(tmp_path, busy=40, idle=50)
    times = iter((0, 99_999_999, 100_000_000))
    metrics = HostMetrics(tmp_path, 200.0, lambda: next(times))
    first = read(metrics)
    write(tmp_path, busy=70, idle=60)
    assert read(metrics) == first
    assert read(metrics)["nv_cpu_utilization"] == pytest.approx(0.75)


def test_memory_is_used_that_is_not_available(tmp_path: Path) -> None:
    write(tmp_path, busy=1, idle=1)
    found = read(HostMetrics(tmp_path))
    assert found["nv_cpu_memory_total_bytes"] == 1000 * 1024
    assert found["nv_cpu_memory_used_bytes"] == 600 * 1024


def test_a_system_without_such_files_has_no_such_metrics(tmp_path: Path) -> None:
    assert read(HostMetrics(tmp_path)) == {}


def test_a_system_that_does_not_tell_how_much_memory_is_available_has_the_rest(
    tmp_path: Path,
) -> None:
    write(tmp_path, busy=40, idle=50)
    (tmp_path / "meminfo").write_text("MemTotal:       1000 kB\nMemFree:   400 kB\n")
    assert read(HostMetrics(tmp_path)) == {"nv_cpu_utilization": pytest.approx(0.4)}
