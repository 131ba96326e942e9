"""The optimiser of ONNX Runtime that a session goes without, lest the process ends as it is opened.

MatmulTransposeFusion takes a Cast that stands between a Transpose and a MatMul to the front, and
NchwcTransformer then reads memory that is not there any more; so it is with releases from 1.20 to
1.31 at least. Casts stand there in any graph of half precision, which a CPU computes in FP32, such
as one of torch's own attention. Without convolutions the latter has nothing to do, and with them
the former next to nothing.
"""

from pathlib import Path
from typing import Final

from serving.config.nodes import has_node

LEFT_OUT: Final = "optimization.disable_specified_optimizers"  # of a session's entries


def left_out(model: bytes | Path, on_cpu: bool = True) -> str:
    """What LEFT_OUT is to say of the graph in a file, or in memory."""
    convolves = on_cpu and has_node(model, "Conv", "FusedConv")
    return "MatmulTransposeFusion" if convolves else "NchwcTransformer"
