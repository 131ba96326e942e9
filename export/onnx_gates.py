"""The first gates of an ONNX file of any origin: versions, operators, and what ONNX itself checks.

Each message says what is wrong in the file's own names, and what to do about it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from export.errors import FileRefused, GateRefused
from export.onnx_model import OnnxModel

OLDEST: Final = 7  # what ONNX Runtime promises to read; of older ones it knows a few operators
RUNTIME: Final = onnxruntime.__version__
NEWEST_TRIED: Final = 64
SHOWN: Final = 5
_NO_KERNEL: Final = re.compile(
    r"Could not find an implementation for (?P<op>[^(\s]+)\((?P<since>\d+)\) node with name "
    r"'(?P<node>[^']*)'"
)


def check(path: Path, model: onnx.ModelProto, source: Path) -> OnnxModel:
    """A session for the model at `path`, which was taken from `source`; raises FileRefused."""
    try:
        _check_versions(model)
        _check_operators(model)
        _check_valid(path, model)
        opened = _open(path, model)
        _ = opened.signature  # of which not every type can be sent
        return opened
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"{source}: a name in it is no text, but bytes that are not UTF-8: copy or export it "
            "again"
        ) from error
    except GateRefused as error:
        raise FileRefused(f"{source}: {error}") from error


def opset(model: onnx.ModelProto) -> int | None:
    """The version of ONNX's own operators; None where the model uses none."""
    return _opsets(model.opset_import).get("")


def _opsets(imports: Iterable[Any]) -> dict[str, int]:
    return {_domain(entry.domain): entry.version for entry in imports}


def _domain(name: str) -> str:
    """ONNX's own domain has two names."""
    return "" if name == "ai.onnx" else name


def _check_versions(model: onnx.ModelProto) -> None:
    if not model.opset_import:
        raise FileRefused("it states no opset: export it again")
    stated, newest = opset(model), _newest_opset()
    if stated is not None and not OLDEST <= stated <= newest:
        cure = (
            f"export it with opset {newest} or less, or upgrade onnxruntime"
            if stated > newest
            else "export it again, or convert it by onnx.version_converter"
        )
        raise FileRefused(
            f"its graph is of opset {stated}; ONNX Runtime {RUNTIME} reads {OLDEST} to {newest}: "
            f"{cure}"
        )
    if model.ir_version > (known := _newest_ir()):
        raise FileRefused(
            f"its file is of IR version {model.ir_version}; ONNX Runtime {RUNTIME} reads up to "
            f"{known}: save it with ir_version {known}, or upgrade onnxruntime"
        )


@cache
def _newest_opset() -> int:
    """The last one that this runtime reads, which no table tells: by trying."""
    return max(version for version in range(OLDEST, NEWEST_TRIED) if _reads(version, ir=8))


@cache
def _newest_ir() -> int:
    return max(version for version in range(8, NEWEST_TRIED) if _reads(OLDEST, ir=version))


def _reads(version: int, ir: int) -> bool:
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opsets = [onnx.helper.make_opsetid("", version)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir)
    try:
        OnnxModel(model.SerializeToString())
    except GateRefused:
        return False
    return True


def _check_operators(model: onnx.ModelProto) -> None:
    """All operators that the runtime lacks at once, each with a node that needs it."""
    own = {(_domain(function.domain), function.name) for function in model.functions}
    lacking: dict[str, None] = {}
    bodies = [(model.graph.node, model.opset_import)]
    bodies += [(function.node, function.opset_import) for function in model.functions]
    for nodes, imports in bodies:
        versions = _opsets(imports)
        for node in _nodes(nodes):
            if (_domain(node.domain), node.op_type) not in own and (
                fault := _fault(node, versions)
            ):
                lacking[fault] = None
    if lacking:
        more = f"; and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        raise FileRefused(
            f"ONNX Runtime {RUNTIME} cannot execute it: {'; '.join(list(lacking)[:SHOWN])}{more}. "
            "Export it with standard operators, or serve it with a Triton server that has them"
        )


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside, such as the branches of an If."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _fault(node: onnx.NodeProto, versions: Mapping[str, int]) -> str:
    """Why the runtime does not have the operator of `node`; empty if it has."""
    domain = _domain(node.domain)
    since = _schemas().get((domain, node.op_type))
    called = _called(node.name, node.op_type, node.domain, node.output)
    if since is None:
        return f"{called} is unknown to it"
    if domain in versions and versions[domain] < since:
        return f"{called} exists since opset {since}, but the file states {versions[domain]}"
    return ""


@cache
def _schemas() -> dict[tuple[str, str], int]:
    """All operators of this runtime by domain and name, with the opset that each came with."""
    first: dict[tuple[str, str], int] = {}
    for schema in runtime.get_all_operator_schema():
        key = (schema.domain, schema.name)
        first[key] = min(schema.since_version, first.get(key, schema.since_version))
    return first


def _called(name: str, operator: str, domain: str, outputs: Iterable[str]) -> str:
    node = f"node '{name}'" if name else f"the node of {', '.join(map(repr, outputs))}"
    return f"{node} with the operator {operator} of the domain {_domain(domain) or 'ai.onnx'}"


def _check_valid(path: Path, model: onnx.ModelProto) -> None:
    """The checker's rules, and shapes that contradict each other."""
    # Shape inference takes sparse weights for numbers without dimensions.
    infers = not model.graph.sparse_initializer
    try:
        with _with_shapes(path, model) as described:
            onnx.checker.check_model(described, full_check=infers)
    except UnicodeDecodeError:
        raise
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,  # of a type of elements that it does not know
    ) as error:
        raise FileRefused(f"it is not valid ONNX: {_first_line(error)}") from error


@contextmanager
def _with_shapes(path: Path, model: onnx.ModelProto) -> Iterator[Path]:
    """The file, or beside it a copy that states the shapes of inputs and outputs where the file
    leaves that to who reads it, as some exporters do and the checker does not allow."""
    if not _without_shape(model):
        yield path
        return
    inferred = onnx.shape_inference.infer_shapes(model)
    if names := _without_shape(inferred):
        raise FileRefused(
            f"{names[0]!r} has no shape, and none follows from the others: export it again with "
            "the number of its dimensions, which may be of any size"
        )
    with NamedTemporaryFile(dir=path.parent, suffix=path.suffix) as copy:
        copy.write(inferred.SerializeToString())
        copy.flush()
        yield Path(copy.name)


def _without_shape(model: onnx.ModelProto) -> list[str]:
    """The inputs and outputs that are tensors of any number of dimensions."""
    return [
        each.name
        for each in (*model.graph.input, *model.graph.output)
        if each.type.HasField("tensor_type") and not each.type.tensor_type.HasField("shape")
    ]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _open(path: Path, model: onnx.ModelProto) -> OnnxModel:
    try:
        return OnnxModel(path)
    except GateRefused as error:
        if match := _NO_KERNEL.search(str(error)):
            raise FileRefused(_no_kernel(model, **match.groupdict())) from error
        raise


def _no_kernel(model: onnx.ModelProto, op: str, since: str, node: str) -> str:
    """An operator that the runtime knows by name, in a version or for types that it lacks."""
    found = [each for each in _nodes(model.graph.node) if (each.name, each.op_type) == (node, op)]
    domain, outputs = (found[0].domain, found[0].output) if found else ("", ())
    return (
        f"ONNX Runtime {RUNTIME} cannot execute {_called(node, op, domain, outputs)} "
        f"(version {since}) on the CPU, at least not for its types: export it with others"
    )
