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
from typing import Final, NamedTuple, TypeAlias

_Content: TypeAlias = bytes | mmap
_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_INPUT = 1, 11
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
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
    `unique_along` where Unique looks along an axis. `known` is False of a file that is no graph of
    ONNX."""

    operators: frozenset[bytes] = frozenset()
    pools_away: bool = False
    places: frozenset[bytes] = frozenset()
    unique_along: bool = False
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


class _Field(NamedTuple):
    """A field of a message: an integer, or where its bytes begin and end."""

    number: int
    integer: int
    begin: int
    end: int


# The operator of a node, and its attributes.
_Node: TypeAlias = tuple[bytes, list[_Field]]


def _traits(content: _Content) -> Traits:
    operators, pools_away, unique_along, sizes_vary = set(), False, False, False
    tensors: list[_Field] = []
    for field in _fields(content, 0, len(content)):
        if field.number == _MODEL_GRAPH:
            sizes_vary = _sizes_vary(content, field)
            nodes = _graph(content, field, tensors, _DEEPEST)
        elif field.number == _MODEL_FUNCTION:
            nodes = _function(content, field, tensors)
        else:
            continue
        for operator, attributes in nodes:
            operators.add(operator)
            names = (_name(content, attribute) for attribute in attributes)
            unique_along |= operator == _UNIQUE and b"axis" in names
            pools_away |= operator in _POOLS and _pools_away(content, attributes)
    places = frozenset(place for tensor in tensors for place in _places(content, tensor))
    return Traits(frozenset(operators), pools_away and sizes_vary, places, unique_along)


def _graph(
    content: _Content, graph: _Field, tensors: list[_Field], deepest: int
) -> Iterator[_Node]:
    """The nodes of a graph and of those inside; `tensors` gets all that they hold."""
    for field in _fields(content, graph.begin, graph.end):
        if field.number == _GRAPH_NODE:
            yield from _node(content, field, tensors, deepest)
        elif field.number == _GRAPH_TENSOR:
            tensors.append(field)
        elif field.number == _GRAPH_SPARSE:
            tensors += _of_sparse(content, field)


def _function(content: _Content, function: _Field, tensors: list[_Field]) -> Iterator[_Node]:
    for field in _fields(content, function.begin, function.end):
        if field.number == _FUNCTION_NODE:
            yield from _node(content, field, tensors, _DEEPEST)
        elif field.number == _FUNCTION_ATTRIBUTE:
            yield from _attribute(content, field, tensors, _DEEPEST)


def _node(content: _Content, node: _Field, tensors: list[_Field], deepest: int) -> Iterator[_Node]:
    operator, attributes = b"", []
    for field in _fields(content, node.begin, node.end):
        if field.number == _NODE_OPERATOR:
            operator = content[field.begin : field.end]
        elif field.number == _NODE_ATTRIBUTE:
            attributes.append(field)
    yield operator, attributes
    for attribute in attributes:
        yield from _attribute(content, attribute, tensors, deepest)


def _attribute(
    content: _Content, attribute: _Field, tensors: list[_Field], deepest: int
) -> Iterator[_Node]:
    for field in _fields(content, attribute.begin, attribute.end):
        if field.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            if not deepest:
                raise ValueError("graphs in graphs without end")
            yield from _graph(content, field, tensors, deepest - 1)
        elif field.number in _ATTRIBUTE_TENSORS:
            tensors.append(field)
        elif field.number in _ATTRIBUTE_SPARSE:
            tensors += _of_sparse(content, field)


def _of_sparse(content: _Content, sparse: _Field) -> Iterator[_Field]:
    fields = _fields(content, sparse.begin, sparse.end)
    return (field for field in fields if field.number in _SPARSE_TENSORS)


def _places(content: _Content, tensor: _Field) -> Iterator[bytes]:
    """Where a tensor states that its elements are, if it does, whether or not they are there."""
    for entry in _within(content, tensor, _TENSOR_OUTSIDE):
        key = value = b""
        for field in _fields(content, entry.begin, entry.end):
            if field.number == _OUTSIDE_KEY:
                key = content[field.begin : field.end]
            elif field.number == _OUTSIDE_VALUE:
                value = content[field.begin : field.end]
        if key == b"location":
            yield value


def _name(content: _Content, attribute: _Field) -> bytes:
    names = _within(content, attribute, _ATTRIBUTE_NAME)
    return next((content[name.begin : name.end] for name in names), b"")


def _pools_away(content: _Content, attributes: list[_Field]) -> bool:
    """Whether a pool of these attributes gives nothing of one pixel."""
    integers: dict[bytes, list[int]] = {}
    for attribute in attributes:
        name, numbers, pads_itself = b"", [], False
        for field in _fields(content, attribute.begin, attribute.end):
            if field.number == _ATTRIBUTE_NAME:
                name = content[field.begin : field.end]
            elif field.number == _ATTRIBUTE_TEXT:
                pads_itself = content[field.begin : field.end].startswith(b"SAME")
            elif field.number == _ATTRIBUTE_INTEGERS:
                numbers += _integers(content, field)
        if name == b"auto_pad" and pads_itself:
            return False
        integers[name] = numbers
    kernel = integers.get(b"kernel_shape", [])
    pads = integers.get(b"pads") or [0] * (2 * len(kernel))
    dilations = integers.get(b"dilations") or [1] * len(kernel)
    return any(
        dilation * (size - 1) > before + after
        for size, dilation, before, after in zip(
            kernel, dilations, pads, pads[len(kernel) :], strict=False
        )
    )


def _sizes_vary(content: _Content, graph: _Field) -> bool:
    """Whether an input has a dimension beyond the first that may be of any size."""
    for field in _fields(content, graph.begin, graph.end):
        if field.number == _GRAPH_INPUT:
            dims = list(
                _within(content, field, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM)
            )
            if not all(any(_within(content, dim, _DIM_SIZE)) for dim in dims[1:]):
                return True
    return False


def _within(content: _Content, outer: _Field, *path: int) -> Iterator[_Field]:
    """The fields at the end of a path of numbers."""
    for field in _fields(content, outer.begin, outer.end):
        if field.number == path[0]:
            if len(path) == 1:
                yield field
            else:
                yield from _within(content, field, *path[1:])


def _integers(content: _Content, field: _Field) -> list[int]:
    """Of a field of many, which may be written as one or one by one."""
    if field.begin == field.end:
        return [field.integer]
    found, at = [], field.begin
    while at < field.end:
        value, at = _varint(content, at)
        found.append(value)
    return found


def _fields(content: _Content, at: int, end: int) -> Iterator[_Field]:
    """The fields of a message; ValueError or IndexError for what is none.

    What protobuf skips is skipped as well, lest a file say one thing here and another there."""
    groups = 0
    while at < end:
        key, at = _varint(content, at)
        integer, begin = 0, 0
        match key & 7:
            case 0:
                integer, at = _varint(content, at)
            case 1:
                at += 8
            case 2:
                size, begin = _varint(content, at)
                at = begin + size
            case 3:
                groups += 1
            case 4:
                groups -= 1
                continue
            case 5:
                at += 4
            case kind:
                raise ValueError(f"a field of the kind {kind}")
        if at > end:
            raise ValueError("a field that goes on behind its message")
        if not groups:
            # Of a longer key protobuf heeds 32 bits.
            yield _Field((key & 0xFFFFFFFF) >> 3, integer, begin or at, at)


def _varint(content: _Content, at: int) -> tuple[int, int]:
    """An integer, and where what follows it begins."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("an integer without end")
