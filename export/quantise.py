"""A graph in 8-bit integers, by ONNX Runtime's own tools.

static    the range of every tensor is a constant, taken from runs on training data; quantise and
          dequantise operators around each operator, which the runtime fuses (QDQ)
dynamic   weights alone are quantised beforehand; each run takes the ranges of what it computes
          from all of its batch, so that rows depend on their neighbours

Weights keep 7 of the 8 bits: a processor without VNNI adds products of 8 bits in 16, which
overflow. The textbook CNN of CIFAR-10 fell from 80 to 55 % there, and the file shall be right
anywhere.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import onnx
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType

from export.errors import VariantRefused
from serving.types import Array

# What is before the first of these, and from the last one on, stays in floating point.
_LAYERS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
_QUANTISED: Final = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM"})
_OPTIONS: Final = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
_SYMMETRIC: Final = {
    "reduce_range": False,
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
}


def is_recurrent(graph: bytes) -> bool:
    """Whether it has operators that only the dynamic way knows."""
    return any(node.op_type in _RECURRENT for node in onnx.load_from_string(graph).graph.node)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._feeds, None)


def static(graph: bytes, feeds: Iterable[Mapping[str, Array]], symmetric: bool = False) -> bytes:
    """`feeds` are batches of training samples. `symmetric` ranges, of signed numbers and all 8
    bits, are what TensorRT takes. VariantRefused if nothing can be quantised."""

    def run(model: onnx.ModelProto, target: Path) -> None:
        quantization.quantize_static(
            model,
            target,
            _Batches(feeds),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            nodes_to_exclude=_ends(model),
            **(_OPTIONS | _SYMMETRIC if symmetric else _OPTIONS),
        )

    return _quantise(graph, run)


def dynamic(graph: bytes) -> bytes:
    """VariantRefused if nothing can be quantised."""

    def run(model: onnx.ModelProto, target: Path) -> None:
        # Shapes of what is about to be transposed, which would contradict the new ones.
        del model.graph.value_info[:]
        quantization.quantize_dynamic(model, target, **_OPTIONS)

    return _quantise(graph, run)


def _ends(model: onnx.ModelProto) -> list[str]:
    """The nodes before the first layer, and from the last one on where there are more: clients see
    the last one's scores, which shall not be of 8 bits. A graph is sorted."""
    nodes = model.graph.node
    layers = [place for place, node in enumerate(nodes) if node.op_type in _LAYERS]
    if not layers:
        return []
    first, last = layers[0], layers[-1] if len(layers) > 1 else len(nodes)
    return [node.name for place, node in enumerate(nodes) if not first <= place < last]


def _quantise(graph: bytes, run: Any) -> bytes:
    with TemporaryDirectory(prefix="penstock-quantise-") as scratch, _quiet():
        target = Path(scratch, "model.onnx")
        try:
            run(onnx.load_from_string(graph), target)
        except Exception as error:  # the tools' errors have no common base
            raise VariantRefused(f"ONNX Runtime's tools cannot quantise it: {error}") from error
        made = onnx.load(target)
    if not any(node.op_type in _QUANTISED for node in made.graph.node):
        raise VariantRefused("it has no operator that can be quantised")
    return bytes(made.SerializeToString(deterministic=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools advise to optimise the graph first; what comes of it is the gates' to say."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
