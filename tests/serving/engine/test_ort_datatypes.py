"""ONNX Runtime gets and returns every datatype of the protocol unchanged."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.config import resolve
from serving.config.source import Source
from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.ort_session import OrtSession
from serving.errors import LoadFailed
from serving.types import Array

ONNX_TYPES: Final = {
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.BYTES: TensorProto.STRING,
}
TEXTS: Final = [b"", "snow ☃".encode(), b"\0"]


def opened(folder: Path, pairs: dict[str, tuple[Datatype, Datatype]]) -> OrtSession:
    """A session that casts (or passes) input `name` to output `name_out`, for each pair."""
    kinds = {name: tuple(map(_onnx_type, pair)) for name, pair in pairs.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Identity", [name], [f"{name}_out"])
            if given == returned
            else helper.make_node("Cast", [name], [f"{name}_out"], to=returned)
            for name, (given, returned) in kinds.items()
        ],
        "graph",
        [helper.make_tensor_value_info(name, kind[0], ["n"]) for name, kind in kinds.items()],
        [
            helper.make_tensor_value_info(f"{name}_out", kind[1], ["n"])
            for name, kind in kinds.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    config = resolve(None, "m", Source("m"), files=["model.onnx"])
    return OrtBackend(threads=1).open(config, folder)


def _onnx_type(datatype: Datatype) -> Any:
    return ONNX_TYPES.get(datatype) or getattr(TensorProto, datatype.wire)


def sample(datatype: Datatype) -> Array:
    if datatype is Datatype.BYTES:
        texts = np.empty(3, object)
        texts[:] = TEXTS
        return texts
    return np.array([0, 1, 1], datatype.numpy)


@pytest.mark.parametrize("count", [3, 0])
@pytest.mark.parametrize("datatype", Datatype)
def test_what_is_given_is_returned(tmp_path: Path, datatype: Datatype, count: int) -> None:
    given = sample(datatype)[:count]

    [returned] = opened(tmp_path, {"x": (datatype, datatype)}).run({"x": given}, ["x_out"])

    assert returned.dtype == given.dtype
    assert returned.shape == (count,)
    assert returned.tolist() == given.tolist()


def test_bf16_comes_out_where_none_went_in(tmp_path: Path) -> None:
    session = opened(tmp_path, {"x": (Datatype.FP32, Datatype.BF16)})

    [returned] = session.run({"x": np.array([1.0, -2.0], np.float32)}, ["x_out"])

    assert returned.tolist() == [0x3F80, 0xC000]


def test_texts_and_bf16_go_in_together(tmp_path: Path) -> None:
    pairs = {"t": (Datatype.BYTES, Datatype.BYTES), "b": (Datatype.BF16, Datatype.FP32)}

    outputs = opened(tmp_path, pairs).run(
        {"t": sample(Datatype.BYTES), "b": np.array([0x3F80], np.uint16)}, ["t_out", "b_out"]
    )

    assert [output.tolist() for output in outputs] == [TEXTS, [1.0]]


def test_texts_in_and_bf16_out_are_refused_when_the_model_is_opened(tmp_path: Path) -> None:
    pairs = {"t": (Datatype.BYTES, Datatype.BYTES), "b": (Datatype.BF16, Datatype.BF16)}

    with pytest.raises(LoadFailed, match="export the model with FP32 outputs"):
        opened(tmp_path, pairs)
