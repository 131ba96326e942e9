"""The operators of a graph, and whether ONNX Runtime and ONNX itself have them.

Both have operators that the other lacks: the runtime's optimisers write some into ONNX's own domain
that ONNX has never heard of, or not in that opset.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from export.errors import FileRefused

RUNTIME: Final = onnxruntime.__version__
SHOWN: Final = 5
# ONNX 1.23 trips over its own definition of them.
_BROKEN: Final = frozenset({"MeanVarianceNormalization"})


def opsets(imports: Iterable[Any]) -> dict[str, int]:
    """The version of each domain."""
    return {domain(entry.domain): entry.version for entry in imports}


def domain(name: str) -> str:
    """ONNX's own domain has two names."""
    return "" if name == "ai.onnx" else name


def used(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, dict[str, int]]]:
    """All nodes, those inside of others and of functions as well, with the opsets stated there."""
    for body in (model.graph, *model.functions):
        versions = opsets((model if body is model.graph else body).opset_import)
        for node in _nodes(body.node):
            yield node, versions


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside, such as the branches of an If."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def check(model: onnx.ModelProto) -> None:
    """FileRefused names all operators that the runtime lacks, each with a node that needs it."""
    own = {(domain(function.domain), function.name) for function in model.functions}
    lacking: dict[str, None] = {}
    for node, versions in used(model):
        if (domain(node.domain), node.op_type) not in own and (fault := _fault(node, versions)):
            lacking[fault] = None
    if lacking:
        more = f"; and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        raise FileRefused(
            f"ONNX Runtime {RUNTIME} cannot execute it: {'; '.join(list(lacking)[:SHOWN])}{more}. "
            "Export it with standard operators, or serve it with a Triton server that has them"
        )


def _fault(node: onnx.NodeProto, versions: Mapping[str, int]) -> str:
    """Why the runtime does not have the operator of `node`; empty if it has."""
    place = domain(node.domain)
    since = _schemas().get((place, node.op_type))
    if since is None:
        return f"{called(node.op_type, node)} is unknown to it"
    if place in versions and versions[place] < since:
        return (
            f"{called(node.op_type, node)} exists since opset {since}, but the file states "
            f"{versions[place]}"
        )
    return ""


@cache
def _schemas() -> dict[tuple[str, str], int]:
    """All operators of this runtime by domain and name, with the opset that each came with."""
    first: dict[tuple[str, str], int] = {}
    for schema in runtime.get_all_operator_schema():
        key = (schema.domain, schema.name)
        first[key] = min(schema.since_version, first.get(key, schema.since_version))
    return first


def is_standard(node: onnx.NodeProto, versions: Mapping[str, int]) -> bool:
    """Whether ONNX itself can say what a node of its own domain takes and gives."""
    known = onnx.defs.has(node.op_type, max_inclusive_version=versions[""], domain="")
    return known and node.op_type not in _BROKEN


def called(operator: str, node: onnx.NodeProto | None) -> str:
    """A node as messages call it; None for one that the file does not hold, as the runtime makes
    them of operators that are functions."""
    if node is None:
        return f"a node with the operator {operator}, of which another is made,"
    outputs = ", ".join(map(repr, node.output))
    name = f"node '{node.name}'" if node.name else f"the node of {outputs}"
    return f"{name} with the operator {operator} of the domain {domain(node.domain) or 'ai.onnx'}"
