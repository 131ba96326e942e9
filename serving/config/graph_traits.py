"""What an ONNX file says of its nodes and of where its weights are, of which ONNX Runtime tells
nothing.

The file is read as protobuf writes it, without ONNX's own package, which a server does not need; of
weights nothing but their size is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from serving.config.deadly_values import Node, deadly_values
from serving.config.protobuf_fields import Content, Field, fields, integers, within
from serving.types import NOTHING_DEADLY, DeadlyValues

_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_INPUT = 1, 11
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_TEXT, _ATTRIBUTE_GRAPH = 1, 4, 6
_ATTRIBUTE_INTEGERS, _ATTRIBUTE_GRAPHS = 8, 11
# Where tensors are, in a graph and in an attribute; sparse ones are made of two others.
_GRAPH_TENSOR, _GRAPH_SPARSE = 5, 15
_ATTRIBUTE_TENSORS, _ATTRIBUTE_SPARSE = (5, 10), (22, 23)
_SPARSE_TENSORS = (1, 2)
_TENSOR_OUTSIDE, _OUTSIDE_KEY, _OUTSIDE_VALUE = 13, 1, 2
# From the type of an input down to the size of a dimension.
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_SIZE = 2, 1, 2, 1, 1
_DEEPEST: Final = 32  # of graphs in graphs
# Files that are read once: a model is opened once for each of its instances.
_MOST: Final = 256

_CONVOLUTIONS: Final = frozenset({b"Conv", b"FusedConv"})
_POOLS: Final = frozenset({b"MaxPool", b"AveragePool", b"QLinearAveragePool"})
_UNIQUE: Final = b"Unique"
_FAILS_ON_NOTHING: Final = frozenset(
    {b"DynamicQuantizeLSTM", b"GRU", b"LSTM", b"RNN", b"STFT", _UNIQUE}
)


@dataclass(frozen=True, slots=True)
class Traits:
    """`operators` that the graph has; `pools_away` where a pool gives nothing of a small image,
    and images may be of any size; `places` of weights outside of the file, as it states them.
    `unique_along` where Unique looks along an axis; `deadly` values of its inputs. `known` is False
    of a file that is no graph of ONNX."""

    operators: frozenset[bytes] = frozenset()
    pools_away: bool = False
    places: frozenset[bytes] = frozenset()
    unique_along: bool = False
    deadly: DeadlyValues = NOTHING_DEADLY
    known: bool = True

    @property
    def convolves(self) -> bool:
        return not self.operators.isdisjoint(_CONVOLUTIONS)

    @property
    def loops(self) -> bool:
        """Whether it may go round as often as its inputs say, and so perhaps for ever."""
        return b"Loop" in self.operators or not self.known

    @property
    def fails_on_nothing(self) -> frozenset[bytes]:
        """Those of its operators by which ONNX Runtime ends the process where an input has no
        elements; all there are, where they are not known."""
        if not self.known:
            return _FAILS_ON_NOTHING
        found = self.operators & _FAILS_ON_NOTHING
        return found if self.unique_along else found - {_UNIQUE}


def traits(model: bytes | Path) -> Traits:
    """Those of the graph in a file, or in memory."""
    try:
        if isinstance(model, bytes):
            return _traits(model)
        found = model.stat()
        return _of_file(model, (found.st_ino, found.st_size, found.st_mtime_ns))
    except (OSError, ValueError, IndexError):  # of what the runtime tells more
        return Traits(known=False)


@lru_cache(_MOST)
def _of_file(path: Path, _: tuple[int, int, int]) -> Traits:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return _traits(content)


def _traits(content: Content) -> Traits:
    operators, pools_away, unique_along, sizes_vary = set(), False, False, False
    tensors: list[Field] = []
    deadly = NOTHING_DEADLY
    for field in fields(content, 0, len(content)):
        if field.number == _MODEL_GRAPH:
            sizes_vary = _sizes_vary(content, field)
            nodes = list(_graph(content, field, tensors, _DEEPEST))
            deadly = deadly_values(content, field, nodes)
        elif field.number == _MODEL_FUNCTION:
            nodes = list(_function(content, field, tensors))
        else:
            continue
        for node in nodes:
            operators.add(node.operator)
            names = (_name(content, attribute) for attribute in node.attributes)
            unique_along |= node.operator == _UNIQUE and b"axis" in names
            pools_away |= node.operator in _POOLS and _pools_away(content, node.attributes)
    places = frozenset(place for tensor in tensors for place in _places(content, tensor))
    return Traits(frozenset(operators), pools_away and sizes_vary, places, unique_along, deadly)


def _graph(content: Content, graph: Field, tensors: list[Field], deepest: int) -> Iterator[Node]:
    """The nodes of a graph and of those inside; `tensors` gets all that they hold."""
    for field in fields(content, graph.begin, graph.end):
        if field.number == _GRAPH_NODE:
            yield from _node(content, field, tensors, deepest)
        elif field.number == _GRAPH_TENSOR:
            tensors.append(field)
        elif field.number == _GRAPH_SPARSE:
            tensors += _of_sparse(content, field)


def _function(content: Content, function: Field, tensors: list[Field]) -> Iterator[Node]:
    for field in fields(content, function.begin, function.end):
        if field.number == _FUNCTION_NODE:
            yield from _node(content, field, tensors, _DEEPEST)
        elif field.number == _FUNCTION_ATTRIBUTE:
            yield from _attribute(content, field, tensors, _DEEPEST)


def _node(content: Content, node: Field, tensors: list[Field], deepest: int) -> Iterator[Node]:
    operator = b""
    texts: dict[int, list[bytes]] = {_NODE_INPUT: [], _NODE_OUTPUT: []}
    attributes = []
    for field in fields(content, node.begin, node.end):
        if field.number == _NODE_OPERATOR:
            operator = content[field.begin : field.end]
        elif field.number == _NODE_ATTRIBUTE:
            attributes.append(field)
        elif field.number in texts:
            texts[field.number].append(content[field.begin : field.end])
    yield Node(operator, texts[_NODE_INPUT], texts[_NODE_OUTPUT], attributes)
    for attribute in attributes:
        yield from _attribute(content, attribute, tensors, deepest)


def _attribute(
    content: Content, attribute: Field, tensors: list[Field], deepest: int
) -> Iterator[Node]:
    for field in fields(content, attribute.begin, attribute.end):
        if field.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            if not deepest:
                raise ValueError("graphs in graphs without end")
            yield from _graph(content, field, tensors, deepest - 1)
        elif field.number in _ATTRIBUTE_TENSORS:
            tensors.append(field)
        elif field.number in _ATTRIBUTE_SPARSE:
            tensors += _of_sparse(content, field)


def _of_sparse(content: Content, sparse: Field) -> Iterator[Field]:
    found = fields(content, sparse.begin, sparse.end)
    return (field for field in found if field.number in _SPARSE_TENSORS)


def _places(content: Content, tensor: Field) -> Iterator[bytes]:
    """Where a tensor states that its elements are, if it does, whether or not they are there."""
    for entry in within(content, tensor, _TENSOR_OUTSIDE):
        key = value = b""
        for field in fields(content, entry.begin, entry.end):
            if field.number == _OUTSIDE_KEY:
                key = content[field.begin : field.end]
            elif field.number == _OUTSIDE_VALUE:
                value = content[field.begin : field.end]
        if key == b"location":
            yield value


def _name(content: Content, attribute: Field) -> bytes:
    names = within(content, attribute, _ATTRIBUTE_NAME)
    return next((content[name.begin : name.end] for name in names), b"")


def _pools_away(content: Content, attributes: list[Field]) -> bool:
    """Whether a pool of these attributes gives nothing of one pixel."""
    stated: dict[bytes, list[int]] = {}
    for attribute in attributes:
        name, numbers, pads_itself = b"", [], False
        for field in fields(content, attribute.begin, attribute.end):
            if field.number == _ATTRIBUTE_NAME:
                name = content[field.begin : field.end]
            elif field.number == _ATTRIBUTE_TEXT:
                pads_itself = content[field.begin : field.end].startswith(b"SAME")
            elif field.number == _ATTRIBUTE_INTEGERS:
                numbers += integers(content, field)
        if name == b"auto_pad" and pads_itself:
            return False
        stated[name] = numbers
    kernel = stated.get(b"kernel_shape", [])
    pads = stated.get(b"pads") or [0] * (2 * len(kernel))
    dilations = stated.get(b"dilations") or [1] * len(kernel)
    return any(
        dilation * (size - 1) > before + after
        for size, dilation, before, after in zip(
            kernel, dilations, pads, pads[len(kernel) :], strict=False
        )
    )


def _sizes_vary(content: Content, graph: Field) -> bool:
    """Whether an input has a dimension beyond the first that may be of any size."""
    for field in fields(content, graph.begin, graph.end):
        if field.number == _GRAPH_INPUT:
            dims = list(
                within(content, field, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM)
            )
            if not all(any(within(content, dim, _DIM_SIZE)) for dim in dims[1:]):
                return True
    return False
