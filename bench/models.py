"""The models that all servers are given, and what is asked of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SMALL_ROWS: Final = 64
LARGE_SHAPE: Final = (256, 3, 32, 32)  # a batch of CIFAR images, 3 MB

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

# As the committed models ask for; a configuration takes its name from its folder.
_CONFIG: Final = """\
backend: "onnxruntime"
max_batch_size: {rows}
input {{ name: "{input}" data_type: TYPE_FP32 dims: {dims_in} }}
output {{ name: "{output}" data_type: TYPE_FP32 dims: {dims_out} }}
dynamic_batching {{ {batching} }}
"""
_PREFERRED: Final = "preferred_batch_size: [16, 32]"


@dataclass(frozen=True, slots=True)
class Subject:
    """One model, the rows of one request to it, and what the raw runtime says about them."""

    model: str
    file: Path
    input: str
    output: str
    rows: Array | Pixels
    expected: Array


def mnist(published: Path, picture: Path, repository: Path) -> Subject:
    """The FP32 network of a published MNIST classifier, and one image (1, 1, 28, 28) for it."""
    rows = normalise(published, _pixels(picture))
    model = without_preprocessing(published)
    return publish(repository, "mnist", model, rows, SMALL_ROWS)


def published(repository: Path, model: str, picture: Path) -> Subject:
    """A published MNIST classifier as it is, and one image (1, 1, 28, 28) in UINT8 for it."""
    file, rows = repository / model / "1" / "model.onnx", _pixels(picture)
    (expected,) = session(file).run(["probabilities"], {"image": rows})
    return Subject(model, file, "image", "probabilities", rows, expected)


def _pixels(picture: Path) -> Pixels:
    image = Image.open(picture).convert("L").resize((28, 28))
    return np.array(image, dtype=np.uint8).reshape(1, 1, 28, 28)


def cifar(repository: Path) -> Subject:
    """A model that memory bounds, a gain and an offset, and 256 images (256, 3, 32, 32) for it."""
    numbers = np.random.default_rng(0)
    rows = numbers.random(LARGE_SHAPE, dtype=np.float32)
    image, normalised = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *rows.shape[1:]])
        for name in ("image", "normalised")
    )
    constants = [
        numpy_helper.from_array(numbers.random((1, 3, 1, 1), dtype=np.float32), name)
        for name in ("gain", "offset")
    ]
    nodes = [
        helper.make_node("Mul", ["image", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["normalised"]),
    ]
    graph = helper.make_graph(nodes, "normalise", [image], [normalised], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return publish(repository, "cifar", model, rows, len(rows))


def without_preprocessing(path: Path) -> Any:
    """A published MNIST classifier whose input (N, 1, 28, 28) is normalised FP32 already.

    What `penstock export` puts before the network (cast, gain, offset) is taken out, and so is
    the output of logits: what is left is the plain classifier that people usually serve. Raises
    ValueError if the graph begins otherwise.
    """
    model = onnx.load(path)
    graph = model.graph
    before = list(graph.node)[:3]
    if [node.op_type for node in before] != ["Cast", "Mul", "Add"]:
        raise ValueError(f"{path} does not begin with a cast, a gain and an offset")
    for node in before:
        graph.node.remove(node)
    image, normalised = graph.input[0], before[-1].output[0]
    for node in graph.node:
        node.input[:] = [image.name if name == normalised else name for name in node.input]
    image.type.tensor_type.elem_type = TensorProto.FLOAT
    kept = [output for output in graph.output if output.name == "probabilities"]
    del graph.output[:]
    graph.output.extend(kept)
    used = {name for node in graph.node for name in node.input}
    for unused in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(unused)
    onnx.checker.check_model(model, full_check=True)
    return model


def normalise(path: Path, pixels: Pixels) -> Array:
    """Pixels as that network wants them, by the gain and the offset in its published file."""
    constants = {
        each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer
    }
    scaled: Array = pixels.astype(np.float32) * constants["gain"] + constants["offset"]
    return scaled


def session(file: Path) -> onnxruntime.InferenceSession:
    """The raw runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def publish(
    repository: Path,
    name: str,
    model: Any,
    rows: Array,
    most: int,
    batching: str = _PREFERRED,
) -> Subject:
    """Put a model of one input and one output into the repository, for batches of `most` rows."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    file = folder / "model.onnx"
    onnx.save(model, file)
    input_, output = model.graph.input[0], model.graph.output[0]
    config = _CONFIG.format(
        rows=most,
        input=input_.name,
        output=output.name,
        dims_in=_dims(input_),
        dims_out=_dims(output),
        batching=batching,
    )
    (folder.parent / "config.pbtxt").write_text(config)
    (expected,) = session(file).run([output.name], {input_.name: rows})
    return Subject(name, file, input_.name, output.name, rows, expected)


def _dims(value: Any) -> Sequence[int]:
    """Those of one row."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
