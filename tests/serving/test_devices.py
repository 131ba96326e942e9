"""`--device` says where models execute that leave it open."""

import click
import pytest

from serving.devices import Device, Gpus, Wish
from serving.engine_settings import EngineKind, device
from serving.settings import Settings


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("auto", Wish()),
        ("cpu", Wish(Device.CPU)),
        ("cuda", Wish(Device.CUDA)),
        ("cuda:0", Wish(Device.CUDA, (0,))),
        ("CUDA:2,0", Wish(Device.CUDA, (2, 0))),
        ("tensorrt", Wish(Device.TENSORRT)),
        ("tensorrt:1", Wish(Device.TENSORRT, (1,))),
    ],
)
def test_a_device_is_read_and_written(text: str, wish: Wish) -> None:
    assert Wish.of(text) == wish
    assert str(wish) == text.lower()


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:a", "cuda:-1", "cpu:0", "auto:1"])
def test_what_is_no_device_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not auto, cpu, cuda, cuda:N"):
        device(text)


def test_a_gpu_is_named_once() -> None:
    with pytest.raises(click.BadParameter, match="names a GPU twice"):
        device("cuda:1,1")


def test_only_cuda_and_tensorrt_ask_for_a_gpu() -> None:
    asking = [each for each in Device if Wish(each).is_binding]
    assert asking == [Device.CUDA, Device.TENSORRT]


def test_gpus_tell_why_there_are_none() -> None:
    assert str(Gpus(missing="no driver")) == "none (no driver)"
    assert str(Gpus((0, 2))) == "0, 2"


def test_the_device_is_said_to_triton_servers_where_those_execute() -> None:
    with pytest.raises(click.UsageError, match="--device says nothing with --engine=triton"):
        Settings(engine=EngineKind.TRITON, triton_url=("gpu:8001",), device=Wish(Device.CUDA))
