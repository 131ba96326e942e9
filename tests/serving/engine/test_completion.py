"""What flags do to a load: completing nothing, a batch size of their own, trying again."""

from pathlib import Path
from typing import Any

import pytest

from serving.config import CPU, Completion, Placement
from serving.dtypes import Datatype
from serving.engine.backends.base import Backend
from serving.engine.backends.identity import IdentityBackend
from serving.engine.backends.ort import OrtBackend
from serving.engine.loading import Loader, Plan, close
from serving.engine.repository import Repository
from serving.engine.servable import Opened
from serving.errors import LoadFailed
from serving.settings import PassportPolicy
from tests.serving import graphs

INPUT = 'input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }\n'
OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }\n'
STRICT = Completion(must_be_complete=True)


class Fails:
    """A backend that fails some times before it opens."""

    def __init__(self, times: int) -> None:
        self.left = times

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> Any:
        if self.left:
            self.left -= 1
            raise LoadFailed(f"{folder}: not yet")
        return IdentityBackend().open(config, folder)


def opened(
    folder: Path,
    text: str | None,
    completion: Completion,
    backend: Backend | None = None,
    retries: int = 0,
) -> Opened:
    """The model `m` of this configuration and of a graph that batches."""
    made = graphs.model({"x": (Datatype.FP32, ["n", 2])}, {"y": (Datatype.FP32, ["n", 2])})
    graphs.write(made, folder / "m" / "1" / "model.onnx")
    if text is not None:
        (folder / "m" / "config.pbtxt").write_text(text)
    backends = {"onnxruntime": backend or OrtBackend(threads=1)}
    loader = Loader(backends, PassportPolicy.OFF, completion, retries)
    plan: Plan = loader.plan(Repository([folder]), "m")
    [version] = loader.open(plan, [1])
    close(version.sessions)
    return version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no config.pbtxt, and nothing is completed"),
        ("", "must specify its inputs, since nothing is completed"),
        (OUTPUT, "must specify its inputs, since nothing is completed"),
        (INPUT, "must specify its outputs, since nothing is completed"),
    ],
)
def test_what_is_missing_is_refused_where_nothing_is_completed(
    tmp_path: Path, text: str | None, message: str
) -> None:
    with pytest.raises(LoadFailed, match=message):
        opened(tmp_path, text, STRICT)


def test_what_is_complete_is_served_as_it_is(tmp_path: Path) -> None:
    config = opened(tmp_path, f"max_batch_size: 3\n{INPUT}{OUTPUT}", STRICT).config
    assert config.max_batch_size == 3
    assert not config.proto.HasField("dynamic_batching")


@pytest.mark.parametrize("text", [None, "", INPUT])
def test_what_a_model_batches_that_does_not_say_it_is_a_setting(
    tmp_path: Path, text: str | None
) -> None:
    config = opened(tmp_path, text, Completion(max_batch_size=9)).config
    assert config.max_batch_size == 9
    assert config.proto.HasField("dynamic_batching")


def test_a_batch_size_that_is_stated_stays(tmp_path: Path) -> None:
    config = opened(tmp_path, "max_batch_size: 2", Completion(max_batch_size=9)).config
    assert config.max_batch_size == 2


def test_a_load_that_fails_is_tried_again_as_often_as_was_said(tmp_path: Path) -> None:
    text = f"max_batch_size: 2\n{INPUT}{OUTPUT}"
    with pytest.raises(LoadFailed, match="not yet"):
        opened(tmp_path / "first", text, Completion(), Fails(3), retries=2)
    assert opened(tmp_path / "second", text, Completion(), Fails(2), retries=2).version == "1"


def test_how_long_the_load_took_is_kept(tmp_path: Path) -> None:
    assert opened(tmp_path, None, Completion()).load_duration > 0
