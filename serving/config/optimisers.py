"""The optimiser of ONNX Runtime that a session goes without, lest the process ends as it is opened.

MatmulTransposeFusion takes a Cast that stands between a Transpose and a MatMul to the front, and
NchwcTransformer then reads memory that is not there any more; so it is with releases from 1.20 to
1.31 at least. Casts stand there in any graph of half precision, which a CPU computes in FP32, such
as one of torch's own attention. Without convolutions the latter has nothing to do, and with them
the former next to nothing.
"""

from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

LEFT_OUT: Final = "optimization.disable_specified_optimizers"  # of a session's entries

# How nodes of these operators are written: NodeProto.op_type is field 4, a text of so many bytes.
_CONVOLUTIONS: Final = (b"\x22\x04Conv", b"\x22\x09FusedConv")


def left_out(model: bytes | Path, on_cpu: bool = True) -> str:
    """What LEFT_OUT is to say of the graph in a file, or in memory."""
    return "MatmulTransposeFusion" if on_cpu and _convolves(model) else "NchwcTransformer"


def _convolves(model: bytes | Path) -> bool:
    """False for a file that cannot be read, of which the runtime tells more."""
    if isinstance(model, bytes):
        return any(node in model for node in _CONVOLUTIONS)
    try:
        with model.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return any(content.find(node) >= 0 for node in _CONVOLUTIONS)
    except (OSError, ValueError):  # the latter of an empty one
        return False
