"""What there is of GPUs is found out before a model is opened; nobody falls back unasked."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from serving.config import Placement, parse
from serving.devices import Device, Gpus, Wish
from serving.dtypes import Datatype
from serving.engine.backends import gpus
from serving.engine.backends.cuda_driver import CudaDevice, NoGpu, cuda_devices
from serving.engine.backends.gpus import find_gpus, preload, why_not
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.ort_providers import RECORDS, on_gpu, operators, refuse_fallback
from serving.engine.backends.runtime import CUDA, TENSORRT
from serving.engine.embedded import EmbeddedEngine
from serving.errors import LoadFailed
from serving.settings import Settings
from tests.serving import drivers, graphs

FOR_PROCESSORS = CUDA not in onnxruntime.get_available_providers()
on_processors = pytest.mark.skipif(not FOR_PROCESSORS, reason="this ONNX Runtime is for GPUs")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(drivers.compiled(drivers.CUDA, tmp_path_factory.mktemp("cuda") / "driver.so"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = graphs.model({"x": (Datatype.FP32, ["n", 2])}, {"y": (Datatype.FP32, ["n", 2])})
    graphs.write(made, tmp_path / "model.onnx")
    return tmp_path


def nobody() -> list[CudaDevice]:
    raise AssertionError("nobody was to ask the driver")


def test_the_driver_tells_which_devices_a_process_may_use(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    assert cuda_devices(driver) == [
        CudaDevice(0, "NVIDIA A100", "GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0"),
        CudaDevice(1, "NVIDIA A100 MIG 1g.10gb", "MIG-a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1"),
    ]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("0", "the driver shows this process no GPU: look at CUDA_VISIBLE_DEVICES"),
        ("100", "cuInit: no CUDA-capable device is detected: no GPU that this process may use"),
        ("803", "it is broken: driver and its library are of different versions: restart"),
        ("802", "it is broken: on a machine of several GPUs with NVSwitch, nvidia-fabricmanager"),
        ("805", "it is broken: nvidia-smi tells more"),
        ("999", "cuInit: error 999: /dev/nvidia-uvm may be missing: as root, nvidia-modprobe"),
    ],
)
def test_a_driver_that_gives_no_gpu_is_told_with_the_cure(
    driver: str, monkeypatch: pytest.MonkeyPatch, result: str, message: str
) -> None:
    monkeypatch.setenv("FAKE_CUDA_RESULT", result)
    with pytest.raises(NoGpu, match=message):
        cuda_devices(driver)


def test_a_driver_of_before_mig_is_told_to_be_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "1")
    older = drivers.CUDA.replace("cuDeviceGetUuid_v2", "cuDeviceGetUuid")
    with pytest.raises(NoGpu, match="too old, it has no cuDeviceGetUuid_v2: install a newer one"):
        cuda_devices(str(drivers.compiled(older, tmp_path / "driver.so")))


def test_no_driver_is_told_with_the_cure() -> None:
    with pytest.raises(NoGpu, match=r"no NVIDIA driver \(.*\): install one; in a container"):
        cuda_devices("libthere-is-no-such.so.1")


def test_with_the_cpu_asked_for_nobody_looks_for_a_gpu() -> None:
    assert find_gpus(Wish(Device.CPU), nobody) == Gpus(missing="the server runs with --device=cpu")


@on_processors
def test_auto_takes_the_cpu_where_the_runtime_is_for_processors_and_says_why() -> None:
    found = find_gpus(Wish(), nobody)
    assert found.ids == ()
    assert "is built without CUDA: pip uninstall onnxruntime, then pip install" in found.missing


@on_processors
@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "tensorrt"])
def test_a_gpu_that_was_asked_for_and_cannot_be_had_is_refused(wish: str) -> None:
    with pytest.raises(LoadFailed, match=f"--device={wish}: ONNX Runtime .* without CUDA"):
        find_gpus(Wish.of(wish), nobody)


@pytest.mark.skipif(FOR_PROCESSORS, reason="this ONNX Runtime is for processors only")
def test_a_runtime_for_gpus_without_a_driver_is_refused_with_what_it_lacks() -> None:
    no_driver = partial(cuda_devices, "libthere-is-no-such.so.1")
    assert "no NVIDIA driver" in find_gpus(Wish(), no_driver).missing
    with pytest.raises(LoadFailed, match="--device=cuda: no NVIDIA driver"):
        find_gpus(Wish(Device.CUDA), no_driver)


@pytest.mark.skipif(FOR_PROCESSORS, reason="this ONNX Runtime is for processors only")
def test_a_gpu_that_the_driver_does_not_show_is_refused(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    with pytest.raises(LoadFailed, match="there is no GPU 5; CUDA shows this process 0, 1"):
        find_gpus(Wish.of("cuda:1,5"), partial(cuda_devices, driver))


class RuntimeForGpus:
    """ONNX Runtime as it is where there are GPUs, which tells those that it was tried on."""

    def __init__(self, failure: str = "") -> None:
        """`failure` is what a run says."""
        self.failure = failure
        self.tried: list[str] = []

    def get_available_providers(self) -> list[str]:
        return [CUDA]

    def set_default_logger_severity(self, _: int) -> None:
        pass

    def InferenceSession(self, _: bytes, providers: Any, **_options: Any) -> Any:  # noqa: N802
        self.tried.append(providers[0][1]["device_id"])
        return self

    def get_providers(self) -> list[str]:
        return [CUDA]

    def run(self, _: None, __: Any) -> None:
        if self.failure:
            raise RuntimeError(self.failure)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (
            "Non-zero status code returned while running Neg node. Name:'' Status Message: CUDA "
            "error cudaErrorNoKernelImageForDevice:no kernel image is available for execution on "
            "the device",
            "does not execute on GPU 0: CUDA error 209, no kernel image is available for execution "
            "on the device: this ONNX Runtime has no code for a GPU of this compute capability",
        ),
        (
            'Parse Failed to parse provider option "device_id": CUDA failure 35: CUDA driver '
            "version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=h ; file=a.cc",
            "does not execute on GPU 0: CUDA error 35, CUDA driver version is insufficient for "
            "CUDA runtime version: the driver is too old for the CUDA of ONNX Runtime: install",
        ),
        ("of its own", "does not execute on GPU 0: of its own"),
    ],
)
def test_a_gpu_is_tried_by_a_kernel_and_what_fails_is_told_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, failure: str, told: str
) -> None:
    runtime = RuntimeForGpus(failure)
    monkeypatch.setattr(gpus, "load_runtime", lambda: runtime)
    monkeypatch.setattr(gpus, "unloadable", lambda *_: "")
    shown = [CudaDevice(0, "NVIDIA V100", "GPU-0")]
    assert told in find_gpus(Wish(), lambda: shown).missing
    with pytest.raises(LoadFailed, match=f"^--device=cuda: ONNX Runtime's {CUDA} does not execute"):
        find_gpus(Wish.of("cuda"), lambda: shown)


@pytest.mark.parametrize(("own", "tried"), [(None, ["0"]), ((1,), ["1"]), ((), [])])
def test_a_process_keeps_off_the_gpus_of_others(
    monkeypatch: pytest.MonkeyPatch, own: tuple[int, ...] | None, tried: list[str]
) -> None:
    runtime = RuntimeForGpus()
    monkeypatch.setattr(gpus, "load_runtime", lambda: runtime)
    shown = [CudaDevice(number, "NVIDIA A100", f"GPU-{number}") for number in range(2)]
    assert find_gpus(Wish(own=own), lambda: shown) == Gpus((0, 1), own=own)
    assert runtime.tried == tried


@on_processors
@pytest.mark.parametrize(
    ("placement", "name"), [(Placement(0), CUDA), (Placement(0, {}, {}), TENSORRT)]
)
def test_a_session_that_is_to_be_on_a_gpu_is_nowhere_else(
    folder: Path, placement: Placement, name: str
) -> None:
    with pytest.raises(LoadFailed) as failure:
        OrtBackend(threads=1).open(parse("", "c"), folder, placement)
    said = failure.value.message
    assert said.startswith(f"{folder}/model.onnx: is to execute on {placement}, and ONNX Runtime's")
    assert f"{name} does not load: ONNX Runtime {onnxruntime.__version__} is built without" in said


def recorded(folder: Path) -> Any:
    """A session on the CPU that remembers who executes what."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORDS, "1")
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=providers)


def test_who_executes_what_of_a_graph_is_told(folder: Path) -> None:
    told = operators(recorded(folder))
    assert told.keys() == {"CPUExecutionProvider"}
    assert told["CPUExecutionProvider"]["ConstantOfShape"] == 1


def test_a_model_of_which_nothing_executes_on_its_gpu_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session, placement = recorded(folder), Placement(0)
    caplog.set_level(logging.INFO, "penstock.load")
    refuse_fallback(onnxruntime, session, [("CPUExecutionProvider", {})], placement, folder)
    order, warning = caplog.messages
    assert f"{folder}: executes on GPU 0: CPUExecutionProvider (" in order
    assert "operators: " in order
    assert "all of its operators execute on the CPU, as none of them is for GPUs" in warning


def test_the_order_of_the_providers_is_tensorrt_cuda_and_the_cpu_for_the_rest() -> None:
    assert on_gpu(Placement(1, {"use_tf32": "False"}, {"trt_fp16_enable": "True"})) == [
        (TENSORRT, {"trt_fp16_enable": "True", "device_id": "1"}),
        (CUDA, {"use_tf32": "False", "device_id": "1"}),
        ("CPUExecutionProvider", {}),
    ]
    assert [name for name, _ in on_gpu(Placement(0))] == [CUDA, "CPUExecutionProvider"]


def test_tensorrts_libraries_are_taken_from_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt_libs").mkdir()
    (tmp_path / "tensorrt_libs/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt_libs", raising=False)
    preload(onnxruntime, CUDA)
    assert "tensorrt_libs" not in sys.modules
    preload(onnxruntime, TENSORRT)
    assert sys.modules.pop("tensorrt_libs").__file__ == str(tmp_path / "tensorrt_libs/__init__.py")


@on_processors
def test_what_is_missing_of_a_provider_is_told_with_the_cure() -> None:
    assert "pip install 'penstock[gpu]'" in why_not(onnxruntime, CUDA)


@on_processors
async def test_a_server_that_is_to_have_a_gpu_does_not_start_without(tmp_path: Path) -> None:
    settings = Settings(model_repository=(tmp_path,), device=Wish(Device.CUDA))
    engine = EmbeddedEngine(settings)
    with pytest.raises(LoadFailed, match="--device=cuda: ONNX Runtime"):
        await engine.start()
    await engine.close()
