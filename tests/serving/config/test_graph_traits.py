"""What is read out of an ONNX file without ONNX's own package is what that reads."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.config import Traits, left_out, traits


def info(name: str, dims: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def graph(nodes: list[Any], dims: list[Any]) -> Any:
    weights = [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")]
    return helper.make_graph(nodes, "g", [info("x", dims)], [info("y", [])], weights)


def written(nodes: list[Any], dims: list[Any], functions: Any = ()) -> bytes:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph(nodes, dims), opset_imports=opsets, functions=functions)
    return bytes(made.SerializeToString())


def pool(**how: Any) -> list[Any]:
    return [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y"], **how),
    ]


def test_operators_are_those_of_inner_graphs_and_functions_as_well() -> None:
    body = helper.make_graph([helper.make_node("GRU", ["x"], ["z"])], "b", [], [info("z", [])])
    nodes = [
        helper.make_node("If", ["x"], ["c"], then_branch=body, else_branch=body),
        helper.make_node("Twice", ["c"], ["y"], domain="own"),
    ]
    inner = [helper.make_node("Add", ["a", "a"], ["b"])]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], inner, [helper.make_opsetid("", 17)])

    found = traits(written(nodes, ["n", 3], [twice]))

    assert found.operators == {b"If", b"GRU", b"Twice", b"Add"}
    assert found.fails_on_nothing == {b"GRU"}
    assert not found.convolves
    assert not found.loops
    assert traits(written([helper.make_node("Loop", ["x"], ["y"])], ["n"])).loops


@pytest.mark.parametrize(("how", "fails"), [({}, False), ({"axis": 0}, True)])
def test_unique_fails_on_nothing_along_an_axis_only(how: dict[str, Any], fails: bool) -> None:
    found = traits(written([helper.make_node("Unique", ["x"], ["y"], **how)], ["n", 3]))

    assert found.fails_on_nothing == ({b"Unique"} if fails else set())


SMALL = ["n", 3, "h", "w"]


@pytest.mark.parametrize(
    ("how", "dims", "expected"),
    [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, SMALL, True),
        ({"kernel_shape": [1, 2]}, SMALL, True),
        ({"kernel_shape": [3, 3], "pads": [1, 0, 1, 1]}, SMALL, True),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "dilations": [1, 2]}, SMALL, True),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, SMALL, False),
        ({"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, SMALL, False),
        ({"kernel_shape": [3, 3], "auto_pad": "VALID"}, SMALL, True),
        ({"kernel_shape": [1, 1]}, SMALL, False),
        ({"kernel_shape": [2, 2]}, ["n", 3, 32, 32], False),
    ],
)
def test_a_pool_may_give_nothing_of_a_small_image(
    how: dict[str, Any], dims: list[Any], expected: bool
) -> None:
    found = traits(written(pool(**how), dims))

    assert found.pools_away is expected
    assert found.convolves
    small = "NchwcTransformer;NhwcTransformer" if expected else "MatmulTransposeFusion"
    assert left_out(found) == small
    assert left_out(found, sizes_stated=True) == "MatmulTransposeFusion"
    assert left_out(found, on_cpu=False).startswith("NchwcTransformer")


def test_a_file_gives_what_its_bytes_give(tmp_path: Path) -> None:
    made = written(pool(kernel_shape=[2, 2]), SMALL)
    (tmp_path / "model.onnx").write_bytes(made)

    assert traits(tmp_path / "model.onnx") == traits(made)

    (tmp_path / "model.onnx").write_bytes(written([helper.make_node("Relu", ["x"], ["y"])], ["n"]))
    assert traits(tmp_path / "model.onnx").operators == {b"Relu"}


def outside(location: str) -> TensorProto:
    """A tensor whose elements are in another file."""
    made = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[1])
    made.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("checksum", "location")):
        made.external_data.add(key=key, value=value)
    return made


def scattered() -> onnx.ModelProto:
    """A model with tensors in all places that ONNX has for them."""
    sparse = [
        onnx.SparseTensorProto(values=outside(f"values{n}"), indices=outside(f"indices{n}"))
        for n in range(3)
    ]
    body = helper.make_graph([], "b", [], [info("z", [])], [outside("inner")])
    constant = helper.make_node("Constant", [], ["c"], value=outside("constant"))
    several = helper.make_node("Own", [], ["d"], domain="own", of=[outside("one"), outside("two")])
    several.attribute.append(helper.make_attribute("sparse", sparse[0]))
    several.attribute.append(helper.make_attribute("sparse_ones", [sparse[1]]))
    nodes = [constant, several, helper.make_node("If", ["x"], ["y"], then_branch=body)]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function(
        "own", "Own", [], ["c"], [constant], opsets, [], [helper.make_attribute("t", outside("f"))]
    )
    function.node[0].attribute[0].t.CopyFrom(outside("function"))
    made = helper.make_model(graph(nodes, ["n"]), opset_imports=opsets, functions=[function])
    made.graph.initializer.append(outside("weights"))
    made.graph.sparse_initializer.append(sparse[2])
    return made


def test_the_places_of_weights_are_those_of_all_tensors_there_are() -> None:
    found = traits(scattered().SerializeToString())

    pairs = {each for n in range(3) for each in (f"values{n}", f"indices{n}")}
    others = {"inner", "constant", "one", "two", "function", "f", "weights"}
    assert {place.decode() for place in found.places} == pairs | others


def test_what_protobuf_skips_hides_no_place() -> None:
    """A group or a number in a message's place, whatever they hold, and a key's bits beyond 32."""
    made = helper.make_model(graph([], ["n"]))
    made.graph.initializer.append(outside("weights"))
    plain = message(7, made.graph.SerializeToString())
    group = b"\x0b" + b"\x3a\x01\xff" + b"\x0c"
    number = b"\x39" + b"\xff" * 8
    longer = b"\xba\x80\x80\x80\x10"  # for b"\x3a", as the runtime's protobuf reads it

    for data in (group + plain, number + plain, longer + plain[1:]):
        assert traits(data).places == {b"weights"}


def message(number: int, content: bytes) -> bytes:
    """A field of many bytes, as protobuf writes it."""
    size, length = len(content), b""
    while size > 0x7F:
        size, length = size >> 7, length + bytes([size & 0x7F | 0x80])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def nested(depth: int) -> bytes:
    """Graphs in graphs, as only a hostile file has so many of."""
    inner = b""
    for _ in range(depth):
        inner = message(1, message(5, message(6, inner)))
    return message(7, inner)


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\xff",
        b"\x3a\x02\x0a\x7f",
        b"\x0f",
        b"\x80" * 20,
        b"version https://git-lfs",
        nested(1000),
    ],
)
def test_of_what_is_no_graph_the_worst_is_taken(content: bytes) -> None:
    found = traits(content)

    assert found == Traits(known=False)
    assert found.fails_on_nothing >= {b"GRU", b"LSTM", b"RNN", b"Unique"}
    assert found.loops
    assert left_out(found) == "NchwcTransformer"


def test_a_file_that_cannot_be_read_is_left_to_the_runtime(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()

    assert traits(tmp_path / "empty.onnx") == traits(tmp_path / "gone.onnx") == Traits(known=False)


def test_graphs_and_weights_of_any_kind_are_read_as_onnx_reads_them() -> None:
    for case in onnx.defs.get_all_schemas()[:50]:
        node = helper.make_node(case.name, ["x"], ["y"], domain=case.domain, ints=[1, -2, 3], f=1.5)
        assert traits(written([node], ["n"])).operators == {case.name.encode()}


def divided(*nodes: Any, kind: int = TensorProto.INT64, **constants: Any) -> Traits:
    """Those of a graph of the integers a and b."""
    inputs = [info("a", ["n", 2], kind), info("b", ["n", 2], kind)]
    weights = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    made = helper.make_graph(list(nodes), "g", inputs, [info("y", [], kind)], weights)
    return traits(bytes(helper.make_model(made).SerializeToString()))


def node(operator: str, *inputs: str, to: str = "y", **how: Any) -> Any:
    return helper.make_node(operator, inputs, [to], **how)


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_a_division_of_integers_of_clients_is_deadly(kind: int) -> None:
    assert divided(node("Div", "a", "b"), kind=kind).deadly.divisions == {("a", "b")}
    assert divided(node("Mod", "b", "a"), kind=kind).deadly.divisions == {("b", "a")}


def test_so_it_is_of_parts_of_them_and_in_inner_graphs() -> None:
    inner = [node("Split", "a", to="c"), node("Div", "c", "d", to="z")]
    body = helper.make_graph(inner, "b", [], [info("z", [])])
    nodes = [node("Gather", "b", "a", to="d"), node("If", "x", then_branch=body, else_branch=body)]

    assert divided(*nodes).deadly.divisions == {("a", "b")}


def test_by_what_the_graph_computes_it_may_be() -> None:
    nodes = [node("Add", "b", "b", to="c"), node("Div", "a", "c")]

    assert divided(*nodes).deadly.divisions == {("a", "")}


@pytest.mark.parametrize("how", [{"value_int": -1}, {"value_ints": [3, -1]}])
def test_a_division_by_a_constant_is_deadly_where_that_is_minus_one(how: dict[str, Any]) -> None:
    of_list = helper.make_tensor("", TensorProto.INT64, [2], [2, -1])
    nodes = [node("Constant", to="c", **how), node("Mod", "a", "c", fmod=0)]

    assert divided(*nodes).deadly.divisions == {("a", "")}
    nodes = [node("Constant", to="c", value=of_list), node("Div", "a", "c")]
    assert divided(*nodes).deadly.divisions == {("a", "")}
    assert divided(node("Div", "a", "w"), w=[2, -1]).deadly.divisions == {("a", "")}


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Div", "a", "w")],
        [node("Constant", to="c", value_int=7), node("Mod", "a", "c")],
        [node("Mod", "a", "b", fmod=1)],
        [node("Div", "w", "b")],
        [node("Add", "a", "b")],
    ],
)
def test_no_other_division_is_deadly(nodes: list[Any]) -> None:
    assert not any(divided(*nodes, w=[2, 255]).deadly)


def test_no_division_of_other_numbers_is_deadly() -> None:
    for kind in (TensorProto.FLOAT, TensorProto.INT16, TensorProto.UINT64):
        assert not any(divided(node("Div", "a", "b"), kind=kind).deadly)


def test_a_length_of_frames_is_deadly_that_a_client_sends() -> None:
    nodes = [node("Squeeze", "a", to="c"), node("STFT", "s", "t", "", "c")]

    assert divided(*nodes).deadly.lengths == {"a"}
    assert not any(divided(node("STFT", "s", "a", "b")).deadly)
