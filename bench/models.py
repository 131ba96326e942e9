"""The model that all servers are given: the trained weights behind an FP32 input."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

INPUT: Final = "image"
OUTPUT: Final = "probabilities"
SHAPE: Final = (1, 28, 28)
CLASSES: Final = 10

# As the committed models ask for.
CONFIG: Final = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 64
input {{ name: "image" data_type: TYPE_FP32 dims: [1, 28, 28] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [10] }}
dynamic_batching {{ preferred_batch_size: [16, 32] }}
"""

Array = npt.NDArray[np.float32]


def without_preprocessing(path: Path) -> Any:
    """A published MNIST classifier whose input (N, 1, 28, 28) is normalised FP32 already.

    What `penstock export` puts before the network (cast, gain, offset) is taken out, and so is
    the output of logits: what is left is the plain classifier that people usually serve.
    """
    model = onnx.load(path)
    graph = model.graph
    raw = graph.input[0]
    cast, gain, offset = list(graph.node)[:3]
    if [node.op_type for node in (cast, gain, offset)] != ["Cast", "Mul", "Add"]:
        raise ValueError(f"{path} does not begin with a cast, a gain and an offset")
    for node in (cast, gain, offset):
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [raw.name if name == offset.output[0] else name for name in node.input]
    raw.type.tensor_type.elem_type = TensorProto.FLOAT
    kept = [output for output in graph.output if output.name == OUTPUT]
    del graph.output[:]
    graph.output.extend(kept)
    used = {name for node in graph.node for name in node.input}
    for unused in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(unused)
    onnx.checker.check_model(model, full_check=True)
    return model


def normalise(path: Path, pixels: npt.NDArray[np.uint8]) -> Array:
    """Pixels as that network wants them, by the gain and the offset in its published file."""
    constants = {
        each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer
    }
    scaled: Array = pixels.astype(np.float32) * constants["gain"] + constants["offset"]
    return scaled


def publish(published: Path, repository: Path, names: list[str]) -> Path:
    """A model repository that serves the FP32 model under each name; gives the first file."""
    model = without_preprocessing(published)
    for name in names:
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        onnx.save(model, folder / "model.onnx")
        (folder.parent / "config.pbtxt").write_text(CONFIG.format(name=name))
    return repository / names[0] / "1" / "model.onnx"


def session(file: Path) -> onnxruntime.InferenceSession:
    """The raw runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
