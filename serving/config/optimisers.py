"""The optimisers of ONNX Runtime that a session goes without, lest the process ends by it.

MatmulTransposeFusion takes a Cast that stands between a Transpose and a MatMul to the front, and
NchwcTransformer then reads memory that is not there any more; so it is with releases from 1.20 to
1.31 at least. Casts stand there in any graph of half precision, which a CPU computes in FP32, such
as one of torch's own attention. Without convolutions the latter has nothing to do, and with them
the former next to nothing.

What NchwcTransformer makes of a pool, and NhwcTransformer of one of 8 bits, divides by zero where
nothing is left of a small image. So graphs of such pools go without them if they take images of any
size; whose dims are stated in config.pbtxt have them.
"""

from typing import Final

from serving.config.graph_traits import Traits

LEFT_OUT: Final = "optimization.disable_specified_optimizers"  # of a session's entries


def left_out(traits: Traits, on_cpu: bool = True, sizes_stated: bool = False) -> str:
    """What LEFT_OUT is to say of a graph; `sizes_stated` where no others than stated come."""
    if traits.pools_away and not sizes_stated:
        return "NchwcTransformer;NhwcTransformer"
    return "MatmulTransposeFusion" if on_cpu and traits.convolves else "NchwcTransformer"
