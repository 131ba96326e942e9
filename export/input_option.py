"""How an input is written on the command line: NAME:DATATYPE:DIMS, such as image:FP32:3,32,32."""

from typing import Any

import click

from serving import dtypes
from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import TensorSpec

_NOT_IN_TORCH = {Datatype.BYTES, Datatype.BF16}


class Input(click.ParamType[TensorSpec]):
    """A TensorSpec without the batch dimension; -1 is any size, and no dims are a scalar."""

    name = "NAME:DATATYPE:DIMS"

    def convert(self, value: Any, param: Any, ctx: Any) -> TensorSpec:
        if isinstance(value, TensorSpec):
            return value
        name, *rest = str(value).split(":")
        if len(rest) != 2 or not name:
            self.fail(f"{value!r} is no NAME:DATATYPE:DIMS, such as image:FP32:3,32,32", param, ctx)
        try:
            datatype = dtypes.from_wire(rest[0])
            dims = tuple(int(size) for size in rest[1].split(",")) if rest[1] else ()
        except InvalidArgument as error:
            self.fail(f"{value!r}: {error.message}", param, ctx)
        except ValueError:
            dims = (0,)
        if datatype in _NOT_IN_TORCH:
            self.fail(f"{value!r}: torch has no tensors of {datatype.wire} here", param, ctx)
        if any(size < 1 and size != -1 for size in dims):
            self.fail(f"{value!r}: dims are numbers above 0, or -1 for any size", param, ctx)
        return TensorSpec(name, datatype, dims)
