"""What `penstock doctor` finds of machines that are fit, and of those that are not."""

import asyncio
import resource
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from bench.peers.base import free_ports
from serving.devices import Gpus, Wish
from serving.doctor import machine, memory, ports, runtime, servers
from serving.doctor.findings import Finding, Verdict
from serving.doctor.runtime import Build
from serving.engine.backends.gpus import find_gpus
from serving.engine_settings import EngineKind
from serving.settings import Settings
from serving.threads import Processors
from tests.serving.gateway.scripted import ScriptedEngine, echo, serving

MIB: Final = 1024 * 1024
GOOD, WARNING, FAULT = Verdict.GOOD, Verdict.WARNING, Verdict.FAULT


@pytest.fixture
def host(tmp_path: Path) -> tuple[Path, Path]:
    """/proc of a machine with 8 GiB, 6 of them free, and no control groups."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n")
    return tmp_path / "proc", tmp_path / "cgroup"


def grouped(host: tuple[Path, Path], line: str, folder: str, **files: str) -> Finding:
    """What is found of the memory in a control group."""
    proc, cgroups = host
    (proc / "self" / "cgroup").write_text(line)
    (cgroups / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (cgroups / folder / name.replace("__", ".")).write_text(text)
    [finding] = memory.memory(Settings(max_inflight_bytes=0), proc, cgroups)
    return finding


def fleet(address: str, **flags: Any) -> Settings:
    return Settings(engine=EngineKind.TRITON, triton_url=(address,), **flags)


async def test_a_triton_server_that_is_ready_is_good_and_others_do_the_work_of_the_rest() -> None:
    [port] = free_ports(1)
    async with serving(ScriptedEngine(m=echo)) as address:
        asked = partial(servers.servers, fleet(f"{address},127.0.0.1:{port}"))
        findings = await asyncio.to_thread(lambda: list(asked()))
    good, missing = sorted(findings, key=lambda finding: finding.verdict.value)
    assert (good.verdict, good.found) == (GOOD, f"{address} is ready")
    assert missing.verdict is WARNING
    assert missing.found.startswith(f"127.0.0.1:{port} is unreachable: ")


async def test_a_name_that_stands_for_no_server_is_told_of_beside_those_that_do() -> None:
    async with serving(ScriptedEngine(m=echo)) as address:
        asked = partial(servers.servers, fleet(f"{address},no-such-host.invalid:8001"))
        missing, good = await asyncio.to_thread(lambda: list(asked()))
    assert good.verdict is GOOD
    assert (missing.verdict, missing.found) == (
        WARNING,
        "no-such-host.invalid:8001: no such host",
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (fleet("no-such-host.invalid:8001"), "no-such-host.invalid:8001: no such host"),
        (
            fleet("a:1", triton_use_ssl=True, triton_root_cert="/none"),
            "cannot read --triton-root-cert /none: No such file or directory",
        ),
    ],
)
def test_servers_that_cannot_be_asked_are_a_fault(settings: Settings, said: str) -> None:
    [finding] = servers.servers(settings)
    assert (finding.verdict, finding.found) == (FAULT, said)


def test_without_a_limit_the_machines_memory_counts(host: tuple[Path, Path]) -> None:
    [finding] = memory.memory(Settings(), *host)

    assert finding == Finding("memory", GOOD, "6144 MiB free of 8192 MiB (the machine)")


def test_a_system_that_does_not_tell_has_no_fault(tmp_path: Path) -> None:
    [finding] = memory.memory(Settings(), tmp_path, tmp_path)

    assert finding.verdict is GOOD


@pytest.mark.parametrize("folder", ["", "kubepods/pod1"])
def test_the_limit_of_a_control_group_counts(host: tuple[Path, Path], folder: str) -> None:
    """By its own path, and in a container, where the path is the host's, as the mount itself."""
    finding = grouped(
        host,
        "0::/kubepods/pod1\n",
        folder,
        memory__max=f"{1024 * MIB}\n",
        memory__current=f"{900 * MIB}\n",
        memory__stat=f"anon 5\ninactive_file {100 * MIB}\n",
    )

    assert finding.verdict is WARNING
    assert finding.found.startswith("224 MiB free of 1024 MiB (the control group ")
    assert "raise the container's memory limit" in finding.advice


@pytest.mark.parametrize(
    ("settings", "advised"),
    [
        (Settings(max_inflight_bytes=256 * MIB), None),
        (Settings(max_inflight_bytes=257 * MIB), 256 * MIB),
        (fleet("a:1", max_inflight_bytes=256 * MIB), 128 * MIB),
        (Settings(max_inflight_bytes=0), None),
    ],
)
def test_large_requests_have_to_fit_into_the_limit(
    host: tuple[Path, Path], settings: Settings, advised: int | None
) -> None:
    proc, cgroups = host
    (proc / "self" / "cgroup").write_text("0::/\n")
    cgroups.mkdir()
    (cgroups / "memory.max").write_text(str(1024 * MIB))
    (cgroups / "memory.current").write_text("0")
    (cgroups / "memory.stat").write_text("inactive_file 0\n")

    _, *found = memory.memory(settings, proc, cgroups)

    assert [finding.verdict for finding in found] == ([WARNING] if advised else [])
    assert all(f"--max-inflight-bytes={advised}" in finding.advice for finding in found)


def test_a_control_group_without_a_limit_has_none(host: tuple[Path, Path]) -> None:
    finding = grouped(
        host, "0::/\n", "", memory__max="max\n", memory__current="7\n", memory__stat=""
    )

    assert "the machine" in finding.found


def test_the_first_version_of_control_groups_is_understood_too(host: tuple[Path, Path]) -> None:
    finding = grouped(
        host,
        "4:memory:/docker/1\n",
        "memory/docker/1",
        memory__limit_in_bytes=f"{2048 * MIB}\n",
        memory__usage_in_bytes=f"{1024 * MIB}\n",
        memory__stat=f"total_inactive_file {24 * MIB}\n",
    )

    assert finding.verdict is GOOD
    assert finding.found.startswith("1048 MiB free of 2048 MiB")


def test_shared_memory_matters_where_clients_may_use_it(tmp_path: Path) -> None:
    [off] = memory.shared_memory(Settings(), tmp_path)
    [on] = memory.shared_memory(Settings(allow_client_shm=True), tmp_path)

    assert "not used" in off.found
    assert f"in {tmp_path}" in on.found


@pytest.mark.parametrize(
    ("affinity", "quota", "verdict", "advice"),
    [
        (8, None, GOOD, ""),
        (8, 2.5, GOOD, ""),
        (8, 0.5, WARNING, "grant 1 or more"),
        (1, None, WARNING, "grant 2 or more"),
    ],
)
def test_less_than_two_processors_is_little(
    monkeypatch: pytest.MonkeyPatch,
    affinity: int,
    quota: float | None,
    verdict: Verdict,
    advice: str,
) -> None:
    monkeypatch.setattr(machine, "processors", lambda: Processors(affinity, quota))
    [finding] = machine.threads(Settings())

    assert finding.verdict is verdict
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("hard", "verdict"),
    [(resource.RLIM_INFINITY, GOOD), (1_000_000, GOOD), (4096, WARNING), (100, FAULT)],
)
def test_the_limit_of_files_is_held_against_the_connections(
    monkeypatch: pytest.MonkeyPatch, hard: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))
    [finding] = machine.files(Settings(max_connections=4096))

    assert finding.verdict is verdict
    assert ("LimitNOFILE=" in finding.advice) == (verdict is not GOOD)


@pytest.mark.parametrize(
    ("source", "is_unsynchronised", "verdict", "found"),
    [
        ("tsc\n", False, GOOD, "read from tsc, and synchronised"),
        ("hpet\n", False, WARNING, "read from hpet, which is slow"),
        ("tsc\n", True, WARNING, "nobody sets it right"),
    ],
)
def test_a_clock_should_be_quick_and_right(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    is_unsynchronised: bool,
    verdict: Verdict,
    found: str,
) -> None:
    monkeypatch.setattr(machine, "_is_unsynchronised", lambda: is_unsynchronised)
    (tmp_path / "source").write_text(source)
    [finding] = machine.clock(Settings(), tmp_path / "source")

    assert finding.verdict is verdict
    assert found in finding.found


@pytest.mark.parametrize(
    ("build", "verdict", "found"),
    [
        (Build("'--enable-optimizations' '--with-lto'", "/usr/local"), GOOD, "as it should be"),
        (Build("'--enable-shared'", "/usr"), GOOD, "as it should be"),
        (Build("", r"C:\Python"), GOOD, "as it should be"),
        (Build("'--enable-shared'", "/home/me/.pyenv"), WARNING, "without --enable-optimizations"),
        (Build("'--with-pydebug'", "/usr", is_debug=True), WARNING, "for debugging"),
    ],
)
def test_a_python_that_was_not_compiled_to_be_quick_is_told_of(
    build: Build, verdict: Verdict, found: str
) -> None:
    [finding] = runtime.interpreter(Settings(), build)

    assert finding.verdict is verdict
    assert finding.found.endswith(found)
    assert ("the distribution's Python" in finding.advice) == (verdict is WARNING)


def test_the_state_of_the_clock_is_asked_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("tsc\n")
    [finding] = machine.clock(Settings(), tmp_path / "source")
    [unknown] = machine.clock(Settings(), tmp_path / "none")

    assert finding.found.startswith("read from tsc")
    assert unknown.verdict is GOOD


LOOPBACK: Final = "127.0.0.1"


def checked(**values: int | str | bool) -> dict[str, Finding]:
    """The findings on the ports of a server on the loopback address."""
    named = {"http_address": LOOPBACK, "grpc_address": LOOPBACK} | values
    settings = Settings(**{"http_port": 0, "grpc_port": 0, "metrics_port": 0} | named)  # type: ignore[arg-type]
    return {finding.check: finding for finding in ports.ports(settings)}


def test_a_port_that_somebody_has_is_a_fault() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        findings = checked(grpc_port=port)

    assert findings["port of http"].verdict is GOOD
    assert findings["port of grpc"].verdict is FAULT
    assert f"sport = :{port}`" in findings["port of grpc"].advice
    assert checked(grpc_port=port)["port of grpc"].verdict is GOOD


def test_two_ports_must_not_be_one() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
    finding = checked(http_port=port, metrics_port=port)["port of metrics"]

    assert finding.found == f"{port} is the port of http as well"
    assert finding.advice == "choose another by --metrics-port or --http-port"


def test_an_address_of_another_machine_is_a_fault() -> None:
    finding = checked(http_address="192.0.2.1")["port of http"]

    assert finding.verdict is FAULT
    assert "--http-address must be an address of this machine" in finding.advice


def test_an_address_that_is_no_name_of_a_host_is_a_fault() -> None:
    finding = checked(grpc_address="a..b")["port of grpc"]

    assert (finding.verdict, finding.found) == (FAULT, "a..b:0: not the name of a host")
    assert "--grpc-address must be an address of this machine" in finding.advice


def test_ports_that_are_off_are_not_looked_at() -> None:
    assert list(checked(allow_grpc=False, allow_metrics=False)) == ["port of http"]


FOUND: Final = runtime.Nvidia("535.104.05", (12, 2), ("0: NVIDIA H100, GPU-1",))
NO_GPUS, ONE_GPU = Gpus(missing="libcudnn.so.9 is missing"), Gpus((0,))
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("found", "providers", "built_for", "usable", "verdicts", "told"),
    [
        ("", [CPU], "", NO_GPUS, [GOOD], "none"),
        ("", [CUDA, CPU], "12", NO_GPUS, [WARNING], "install the driver"),
        ("pip install nvidia-ml-py", [CPU], "", NO_GPUS, [WARNING], "pip install nvidia-ml-py"),
        (FOUND, [CPU], "", NO_GPUS, [GOOD, WARNING], "pip install 'penstock[gpu]'"),
        (FOUND, [CUDA, CPU], "12", NO_GPUS, [GOOD, WARNING], "libcudnn.so.9 is missing"),
        (FOUND, [CUDA, CPU], "12", ONE_GPU, [GOOD, GOOD], "for 12; it executes on GPU 0"),
        (FOUND, [CUDA, CPU], "13", NO_GPUS, [GOOD, FAULT], "a driver for CUDA 13 or newer"),
    ],
)
def test_gpu_driver_and_runtime_have_to_fit(
    found: runtime.Nvidia | str,
    providers: list[str],
    built_for: str,
    usable: Gpus,
    verdicts: list[Verdict],
    told: str,
) -> None:
    findings = list(runtime.gpus(found, providers, built_for, usable))

    assert [finding.verdict for finding in findings] == verdicts
    assert told in findings[-1].found + findings[-1].advice


@pytest.mark.skipif(find_gpus(Wish()).ids != (), reason="there is a GPU here")
def test_a_gpu_that_was_asked_for_and_is_not_there_is_a_fault() -> None:
    *_, finding = runtime.runtime(Settings(device=Wish.of("cuda")))
    assert (finding.check, finding.verdict) == ("device", FAULT)
    assert finding.found.startswith("--device=cuda: ")


def test_gpus_of_which_nothing_tells_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # cannot be imported
    nodes = tmp_path / "nvidiactl"
    assert runtime.nvidia(nodes) == ""
    nodes.touch()
    assert str(runtime.nvidia(nodes)).endswith("pip install nvidia-ml-py")
