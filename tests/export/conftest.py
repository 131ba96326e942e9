"""A network that was trained on real data within a second, and its graph."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from export import pipeline
from export.job import OPSET
from export.to_onnx import to_onnx
from training import checkpoint as checkpoints
from training import loop
from training.catalog import RECIPES, load_dataset
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset
from training.data.files import DATA_VARIABLE


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Rows of 64 numbers are not worth a second thread, which waits for its turn on a busy
    machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def _operators_once() -> Iterator[None]:
    """For each conversion torch reads the sources of all operators that it can write, which takes
    longer than the conversion of a small network. They stay the same, and so does what it read."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(read))
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def trained(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """digits-mlp after a few epochs: some of its answers are right, and some are wrong."""
    config = replace(RECIPES["digits-mlp"].config, epochs=3, device="cpu")
    checkpoint, model = loop.train("digits-mlp", config, digits)
    return checkpoints.save(tmp_path_factory.mktemp("runs") / "digits-mlp", checkpoint, model)


@pytest.fixture(scope="session")
def graph(trained: Checkpoint) -> bytes:
    return to_onnx(trained, OPSET)


@pytest.fixture
def converted(
    graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[onnx.ModelProto], None]], None]:
    """Saves the seconds of a conversion: it gives the trained checkpoint's graph. With
    `converted(change)` it gives a graph that was tampered with."""

    def convert(change: Callable[[onnx.ModelProto], None]) -> None:
        model = onnx.load_from_string(graph)
        change(model)
        monkeypatch.setattr(pipeline, "to_onnx", lambda *_: model.SerializeToString())

    monkeypatch.setattr(pipeline, "to_onnx", lambda *_: graph)
    return convert


@pytest.fixture
def edited(trained: Checkpoint, tmp_path: Path) -> Callable[..., Path]:
    """The trained checkpoint with other words in its record: `edited(labels=[...])`."""

    def edit(**changes: Any) -> Path:
        folder = tmp_path / "edited"
        folder.mkdir()
        for file in Path(trained.folder).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        record = folder / checkpoints.RECORD
        record.write_text(json.dumps(json.loads(record.read_text()) | changes))
        return folder

    return edit


Tree = dict[str, bytes | None]


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], Tree]:
    """Every path below a folder, hidden ones too, with the bytes of each file."""

    def read(folder: Path) -> Tree:
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))
        }

    return read
