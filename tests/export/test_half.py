"""Graphs in half precision: what becomes half, what stays single, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export import half, place
from export.errors import VariantRefused
from export.onnx_model import CUDA, Feed, OnnxModel
from serving.dtypes import Datatype
from serving.types import TensorSpec
from tests.export.onnx_graphs import WEIGHTS, linear, model, node, single

REPOSITORY = Path(__file__).parents[2] / "model_repository"
# One of each kind: convolutions, a decoder's and a generator's, recurrent layers, attention.
KINDS = (
    *("cifar10-cnn", "mnist-autoencoder", "mnist-gan", "ett-lstm", "sst2-gru", "sst2-bilstm"),
    *("agnews-transformer", "binary-mlp"),
)
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def types(graph: bytes) -> dict[str, str]:
    """By the name of each node, what it computes in."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph)).graph
    kinds = {
        info.name: TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        for info in (*inferred.value_info, *inferred.output)
    }
    return {each.name: kinds[each.output[0]] for each in inferred.node}


def of_the_repository(name: str) -> bytes:
    return (REPOSITORY / name / "1" / "model.onnx").read_bytes()


def drawn(fp32: OnnxModel) -> Feed:
    """Eight rows that it takes; texts have words to the end."""
    return {spec.name: _drawn(spec) for spec in fp32.signature.inputs}


def _drawn(spec: TensorSpec) -> np.ndarray:
    shape = [8, *(20 if size == -1 else size for size in spec.dims[1:])]
    random = np.random.default_rng(0)
    if spec.datatype is Datatype.FP32:
        return random.standard_normal(shape).astype(np.float32)
    if "mask" in spec.name:
        return np.ones(shape, np.int64)
    return random.integers(1, 255, shape).astype(spec.datatype.numpy)


def between(*nodes: onnx.NodeProto, **constants: np.ndarray) -> bytes:
    """`nodes` take `a` to `b`, between two layers."""
    first = node("MatMul", ["x", "weights"], ["a"], name="first")
    last = node("MatMul", ["b", "more"], ["y"], name="last")
    arrays = {"weights": WEIGHTS / 10, "more": WEIGHTS[:2] / 10, **constants}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return bytes(model([first, *nodes, last], initializers=tensors).SerializeToString())


def answer(graph: bytes) -> np.ndarray:
    return OnnxModel(graph)({"x": X})["y"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_network_answers_about_the_same_through_the_same_interface(name: str) -> None:
    graph = of_the_repository(name)

    made = half.convert(graph)

    fp32, fp16 = OnnxModel(graph), OnnxModel(made.graph)
    assert (fp16.signature, fp16.symbols) == (fp32.signature, fp32.symbols)
    feed = drawn(fp32)
    half.check_range(graph, made.tensors, [feed])
    exact, rounded = fp32(feed), fp16(feed)
    for output, wanted in exact.items():
        assert rounded[output] == pytest.approx(wanted, abs=0.01, rel=0.01)
    assert any((rounded[output] != exact[output]).any() for output in exact)
    if len(graph) > 100_000:  # elsewhere there is little but operators
        assert len(made.graph) < 0.52 * len(graph)


def test_a_gpu_answers_about_the_same_too() -> None:
    for name in KINDS:
        graph = of_the_repository(name)
        made = half.convert(graph).graph
        if lacking := place.gpu_or_cpu(made).lacking:
            pytest.skip(lacking)
        fp32 = OnnxModel(graph)
        exact, rounded = (run(drawn(fp32)) for run in (fp32, OnnxModel(made, provider=CUDA)))
        for output, wanted in exact.items():
            assert rounded[output] == pytest.approx(wanted, abs=0.02, rel=0.02)


def test_layers_are_half_and_preprocessing_and_scores_are_single(graph: bytes) -> None:
    made = half.convert(graph).graph

    assert half.convert(graph).graph == made
    ours = {each.name: each.op_type for each in onnx.load_from_string(graph).graph.node}
    kinds = {ours[name]: kind for name, kind in types(made).items() if name in ours}
    assert kinds == {
        "Mul": "FLOAT",
        "Add": "FLOAT",
        "Gemm": "FLOAT16",
        "Relu": "FLOAT16",
        "Softmax": "FLOAT",
    }


@pytest.mark.parametrize("operator", ["Relu", "Neg", "Identity"])
def test_what_loses_nothing_is_computed_in_what_it_is_given(operator: str) -> None:
    made = half.convert(between(node(operator, ["a"], ["b"], name="it"))).graph

    assert types(made)["it"] == "FLOAT16"
    assert [each.op_type for each in onnx.load_from_string(made).graph.node] == [
        "Cast",
        "MatMul",
        operator,
        "MatMul",
        "Cast",
    ]


def test_neighbours_in_single_precision_are_not_rounded_between_them() -> None:
    sums = [node("Exp", ["a"], ["e"], name="e"), node("Log", ["e"], ["l"], name="l")]

    made = half.convert(between(*sums, node("Neg", ["l"], ["b"], name="it"))).graph

    kinds = types(made)
    assert (kinds["e"], kinds["l"], kinds["it"]) == ("FLOAT", "FLOAT", "FLOAT")
    operators = [each.op_type for each in onnx.load_from_string(made).graph.node]
    assert operators == ["Cast", "MatMul", "Cast", "Exp", "Log", "Neg", "Cast", "MatMul", "Cast"]


def test_a_half_tensor_that_two_operators_read_in_single_is_cast_once() -> None:
    both = [node("Sin", ["a"], ["s"], name="s"), node("Cos", ["a"], ["c"], name="c")]

    made = half.convert(between(*both, node("Add", ["s", "c"], ["b"], name="it"))).graph

    operators = [each.op_type for each in onnx.load_from_string(made).graph.node]
    assert operators.count("Cast") == 4
    graph = between(*both, node("Add", ["s", "c"], ["b"], name="it"))
    assert OnnxModel(made)({"x": X})["y"] == pytest.approx(
        OnnxModel(graph)({"x": X})["y"], abs=0.01
    )


def test_a_constant_that_half_precision_does_not_hold_keeps_its_operator_single() -> None:
    mask = np.array([-3.4e38, 0], np.float32)
    masked = node("Add", ["a", "mask"], ["m"], name="it")
    graph = between(masked, node("Softmax", ["m"], ["b"], name="softmax"), mask=mask)

    made = half.convert(graph).graph

    assert types(made)["it"] == "FLOAT"
    assert OnnxModel(made)({"x": X})["y"] == pytest.approx(
        OnnxModel(graph)({"x": X})["y"], abs=0.01
    )


def test_weights_beyond_the_range_are_refused_by_name() -> None:
    graph = linear()
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHTS * 20_000, "weights"))

    with pytest.raises(VariantRefused, match=r"the weights weights reach 1.2e\+05, beyond .*65504"):
        half.convert(graph.SerializeToString())


def test_values_beyond_the_range_are_refused_by_the_tensor() -> None:
    graph = linear().SerializeToString()
    tensors = half.convert(graph).tensors

    half.check_range(graph, tensors, [{"x": X}])
    with pytest.raises(VariantRefused, match=r"^y reaches 1.2e\+05 on test samples"):
        half.check_range(graph, tensors, [{"x": X}, {"x": 10_000 * np.ones((1, 3), np.float32)}])
    with pytest.raises(VariantRefused, match=r"^x reaches 7e\+04 on test samples"):
        half.check_range(graph, tensors, [{"x": np.array([[70_000, 0, 0]], np.float32)}])


def test_a_graph_without_layers_is_refused() -> None:
    with pytest.raises(VariantRefused, match="no layer that could compute in half precision"):
        half.convert(single("Relu").SerializeToString())
