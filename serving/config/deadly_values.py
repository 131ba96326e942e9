"""By which values of a client's integers ONNX Runtime would end the process.

The smallest integer, divided by -1, has no quotient, and a processor knows no other answer to that
than a signal; neither has STFT an answer to frames of no length. What reaches such an operator as
the client sent it, or as a part of it, is found here; what the graph computes before is not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from serving.config.protobuf_fields import Content, Field, fields, integers, within
from serving.types import NOTHING_DEADLY, DeadlyValues

_GRAPH_TENSOR, _GRAPH_INPUT = 5, 11
_INPUT_NAME, _INPUT_KIND = 1, (2, 1, 1)
_TENSOR_NAME, _TENSOR_INTEGERS, _TENSOR_RAW, _TENSOR_KIND = 8, (5, 7), 9, 2
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTEGERS = 1, 3, 5, 8
# The kinds of integers whose quotient may not exist; shorter ones are computed in longer ones.
_RAW: Final = {6: "<i4", 7: "<i8"}
_MINUS_ONES: Final = frozenset({-1, 2**64 - 1})
# Operators that give values of their first input, and no others.
_SELECTING: Final = frozenset(
    b"Compress Expand Flatten Gather GatherElements GatherND Identity Reshape Slice Split Squeeze "
    b"Tile Transpose Unsqueeze".split()
)
_FRAME_LENGTH: Final = 3  # of STFT's inputs


@dataclass(frozen=True, slots=True)
class Node:
    """An operator, the names of what it takes and gives, and where its attributes are."""

    operator: bytes
    inputs: list[bytes]
    outputs: list[bytes]
    attributes: list[Field]


def deadly_values(content: Content, graph: Field, nodes: Iterable[Node]) -> DeadlyValues:
    """Those of a graph whose `nodes`, and those of the graphs inside, come in their order."""
    # By the name of a tensor, the input whose values it has.
    source = {name: name for name in _integer_inputs(content, graph)}
    if not source:
        return NOTHING_DEADLY
    known = _Constants(content, graph)
    divisions, lengths = set(), set()
    for node in nodes:
        given = node.inputs and source.get(node.inputs[0])
        if node.operator == b"Constant":
            known.add(node)
        elif given and node.operator in _SELECTING:
            source |= dict.fromkeys(node.outputs, given)
        elif given and _divides(content, node):
            divisor = source.get(node.inputs[1], b"")
            if divisor or known.may_be_minus_one(node.inputs[1]):
                divisions.add((given.decode(), divisor.decode()))
        elif node.operator == b"STFT" and node.inputs[_FRAME_LENGTH:]:
            length = source.get(node.inputs[_FRAME_LENGTH])
            lengths |= {length.decode()} if length else set()
    return DeadlyValues(frozenset(divisions), frozenset(lengths))


class _Constants:
    """The tensors that a graph holds, which are read where it is divided by one."""

    def __init__(self, content: Content, graph: Field) -> None:
        self._content = content
        held = within(content, graph, _GRAPH_TENSOR)
        self._held = {_text(content, tensor, _TENSOR_NAME): tensor for tensor in held}
        self._nodes: dict[bytes, Node] = {}

    def add(self, constant: Node) -> None:
        """A node that gives one."""
        self._nodes |= dict.fromkeys(constant.outputs, constant)

    def may_be_minus_one(self, name: bytes) -> bool:
        """Whether -1 is, or may be, among the values of a tensor."""
        if name in self._held:
            return _has_minus_one(self._content, self._held[name])
        return name not in self._nodes or _is_minus_one(self._content, self._nodes[name])


def _integer_inputs(content: Content, graph: Field) -> Iterator[bytes]:
    for given in within(content, graph, _GRAPH_INPUT):
        if any(kind.integer in _RAW for kind in within(content, given, *_INPUT_KIND)):
            yield _text(content, given, _INPUT_NAME)


def _divides(content: Content, node: Node) -> bool:
    """Whether the node divides as a processor does, which Mod does not with `fmod`."""
    if len(node.inputs) < 2 or node.operator not in (b"Div", b"Mod"):
        return False
    return not any(
        field.integer
        for attribute in node.attributes
        if _text(content, attribute, _ATTRIBUTE_NAME) == b"fmod"
        for field in within(content, attribute, _ATTRIBUTE_INTEGER)
    )


def _is_minus_one(content: Content, constant: Node) -> bool:
    """Whether -1 is among a constant's values."""
    return any(
        _has_minus_one(content, field)
        if field.number == _ATTRIBUTE_TENSOR
        else not _MINUS_ONES.isdisjoint(integers(content, field))
        for attribute in constant.attributes
        for field in fields(content, attribute.begin, attribute.end)
        if field.number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS)
    )


def _has_minus_one(content: Content, tensor: Field) -> bool:
    """Whether a tensor of integers in the file has -1 among its values."""
    kind = next((field.integer for field in within(content, tensor, _TENSOR_KIND)), 0)
    if kind not in _RAW:
        return False
    return any(
        -1 in np.frombuffer(content[field.begin : field.end], _RAW[kind])
        if field.number == _TENSOR_RAW
        else not _MINUS_ONES.isdisjoint(integers(content, field))
        for field in fields(content, tensor.begin, tensor.end)
        if field.number in (*_TENSOR_INTEGERS, _TENSOR_RAW)
    )


def _text(content: Content, message: Field, number: int) -> bytes:
    found = within(content, message, number)
    return next((content[field.begin : field.end] for field in found), b"")
