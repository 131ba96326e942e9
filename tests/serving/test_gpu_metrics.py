"""What NVML tells of the GPUs becomes metrics by Triton's names; NVML is a stand-in of C."""

import ctypes
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.config import CPU, Placement
from serving.doctor import runtime
from serving.engine import gpu_memory
from serving.gpu_metrics import GpuMetrics, gpu_metrics
from serving.metrics_settings import MetricsSettings
from serving.nvml import Gpu, NoNvml, Nvml, visible
from tests.serving import drivers
from tests.serving.exposed import exposed

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The stand-in."""
    folder = tmp_path_factory.mktemp("nvml")
    return ctypes.CDLL(str(drivers.compiled(drivers.NVML, folder / "nvml.so")))


@pytest.fixture(autouse=True)
def machine(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two GPUs, of which the second is cut by MIG; the package has the stand-in for its library."""
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setenv("FAKE_GPUS", "2")
    monkeypatch.setenv("FAKE_ENERGY", "1000")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu_memory._nvml.cache_clear()
    yield
    gpu_memory._nvml.cache_clear()


def samples(metrics: GpuMetrics) -> dict[tuple[str, str], float]:
    """The value of each sample by its name and GPU."""
    found = [sample for family in metrics.collect() for sample in family.samples]
    return {(sample.name, sample.labels["gpu_uuid"]): sample.value for sample in found}


def test_each_gpu_has_tritons_metrics_and_a_mig_instance_those_that_nvml_tells() -> None:
    assert samples(GpuMetrics(Nvml())) == {
        ("nv_gpu_utilization", "GPU-a"): 0.25,
        ("nv_gpu_memory_total_bytes", "GPU-a"): 80000,
        ("nv_gpu_memory_total_bytes", "MIG-b"): 80000,
        ("nv_gpu_memory_used_bytes", "GPU-a"): 1000,
        ("nv_gpu_memory_used_bytes", "MIG-b"): 1000,
        ("nv_gpu_power_usage", "GPU-a"): 70.5,
        ("nv_gpu_power_limit", "GPU-a"): 400.0,
        ("nv_energy_consumption", "GPU-a"): 0.0,
    }


def test_a_gpu_says_what_it_computes_by_and_a_mig_instance_what_its_gpu_does() -> None:
    nvml = Nvml()
    assert [nvml.capability(gpu) for gpu in nvml.gpus()] == [(9, 0), (9, 0)]


def test_a_gpu_that_fell_off_the_bus_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    lost = nvml.gpus()[0]
    monkeypatch.setenv("FAKE_LOST", "0")
    assert [gpu.uuid for gpu in nvml.gpus()] == ["MIG-b"]
    assert {uuid for _, uuid in samples(GpuMetrics(nvml))} == {"MIG-b"}
    with pytest.raises(NoNvml, match=r"NVML: .*: nvidia-smi tells more"):
        nvml.capability(lost)
    with gpu_memory.told("closed m", [Placement(0)]):
        pass  # what is unloaded then is not kept from it


def test_doctor_says_what_a_container_lacks_that_has_the_drivers_tools_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_NO_CUDA", "1")
    told = runtime.nvidia(tmp_path)
    assert isinstance(told, str)
    assert told.endswith("NVIDIA_DRIVER_CAPABILITIES=compute,utility")


def test_energy_counts_from_the_start_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = GpuMetrics(Nvml())
    monkeypatch.setenv("FAKE_ENERGY", "4500")
    assert samples(metrics)["nv_energy_consumption", "GPU-a"] == 3.5


def test_what_is_sampled_is_read_again_once_it_is_half_as_old_as_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter((0, 99_999_999, 100_000_000))
    metrics = GpuMetrics(Nvml(), 200.0, lambda: next(times))
    first = samples(metrics)
    monkeypatch.setenv("FAKE_ENERGY", "2000")
    assert samples(metrics) == first
    assert samples(metrics)["nv_energy_consumption", "GPU-a"] == 1.0


def test_the_memory_that_this_process_holds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HELD", "640")
    assert samples(GpuMetrics(Nvml()))["penstock_gpu_memory_held_bytes", "GPU-a"] == 640


def test_metrics_name_the_counter_as_triton_does() -> None:
    text = exposed()
    assert "# TYPE nv_energy_consumption counter\n" in text
    assert 'nv_energy_consumption{gpu_uuid="GPU-a"} 0.0\n' in text
    assert 'nv_gpu_utilization{gpu_uuid="GPU-a"} 0.25\n' in text


def test_there_are_none_where_nobody_wants_them_or_no_driver_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "nv_gpu" not in exposed(settings=MetricsSettings(allow_gpu_metrics=False))
    monkeypatch.delenv("FAKE_GPUS")
    assert gpu_metrics(0.0) is None
    assert "nv_gpu" not in exposed()


def test_without_a_driver_nvml_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_GPUS")
    with pytest.raises(NoNvml, match="NVML: Driver Not Loaded: there is no NVIDIA driver"):
        Nvml()


@pytest.mark.parametrize(
    ("wanted", "uuids"),
    [
        (None, ["GPU-a", "MIG-b", "MIG-c"]),
        ("1", ["MIG-b", "MIG-c"]),
        ("2,0", ["GPU-a"][:0]),
        ("0,1", ["GPU-a", "MIG-b", "MIG-c"]),
        ("MIG-c,GPU-a", ["MIG-c", "GPU-a"]),
        ("GPU-a, 7, 1", ["GPU-a"]),
        ("", []),
        ("GPU-", []),
    ],
)
def test_cuda_visible_devices_leaves_what_it_names(wanted: str | None, uuids: list[str]) -> None:
    gpus = [
        Gpu(0, "GPU-a", "", None),
        Gpu(1, "MIG-b", "", None),
        Gpu(1, "MIG-c", "", None),
    ]
    assert [gpu.uuid for gpu in visible(gpus, wanted)] == uuids


def test_what_is_not_visible_to_the_process_has_no_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b")
    assert {uuid for _, uuid in samples(GpuMetrics(Nvml()))} == {"MIG-b"}


def test_a_load_on_a_gpu_logs_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "penstock.load")
    monkeypatch.setenv("FAKE_HELD", str(300 * 2**20))
    with gpu_memory.told("loaded m version 1", [CPU, Placement(0)]):
        os.environ["FAKE_HELD"] = str(812 * 2**20)
    message = "loaded m version 1: GPU memory of this process: 300 MiB before, 812 MiB after"
    assert caplog.messages == [message]


@pytest.mark.parametrize(("held", "place"), [("5", CPU), (None, Placement(0))])
def test_nothing_is_logged_of_what_is_on_the_cpu_or_unknown_to_the_driver(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    held: str | None,
    place: Placement,
) -> None:
    caplog.set_level(logging.INFO, "penstock.load")
    if held:
        monkeypatch.setenv("FAKE_HELD", held)
    with gpu_memory.told("loaded m version 1", [place]):
        pass
    assert not caplog.messages


def test_doctor_tells_of_the_driver_and_each_gpu() -> None:
    found = runtime.nvidia()
    assert found == runtime.Nvidia(
        "580.95.05",
        (13, 1),
        (
            "0: NVIDIA A100, GPU-a, 0 MiB of 0 MiB in use",
            "1: NVIDIA A100, MIG-b, 0 MiB of 0 MiB in use",
        ),
    )
