"""The class names of a model's outputs, which no call of the protocol tells.

Answers by classes bear them, though: zeros are classified once, into as many classes as there are.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from tritonclient.grpc import model_config_pb2

from serving.dtypes import from_config
from serving.errors import DeadlineExceeded, ServingError, Unavailable
from serving.triton.fleet import Fleet
from serving.triton.link import soon
from serving.types import InferenceRequest, RequestedOutput, Tensor
from serving.wire import proto_client

Labels: TypeAlias = Mapping[str, tuple[str, ...]]

# Asked for where a model does not say how many classes it has.
_MANY: Final = 65_536


async def ask(fleet: Fleet, config: Any, model: str, version: str) -> Labels | None:
    """The class names by output: {} where the model cannot say, None where nobody answers now."""
    wanted = tuple(
        RequestedOutput(output.name, _classes(output))
        for output in config.output
        if output.label_filename
    )
    is_stateless = not config.HasField("sequence_batching")
    if not wanted or not is_stateless or config.model_transaction_policy.decoupled:
        return {}
    zeros = tuple(_zeros(each, config.max_batch_size) for each in config.input if not each.optional)
    request = InferenceRequest(model, zeros, version, outputs=wanted)
    try:
        reply = await fleet.call("ModelInfer", proto_client.encode_request(request), soon())
        response = proto_client.decode_response(reply)
    except (Unavailable, DeadlineExceeded):
        return None
    except ServingError:
        return {}
    return {tensor.name: _labels(tensor) for tensor in response.outputs}


def _classes(output: Any) -> int:
    return _MANY if min(output.dims, default=1) < 1 else prod(output.dims)


def _zeros(tensor: Any, max_batch_size: int) -> Tensor:
    """One row of zeros, or of empty texts; variable dimensions are 1."""
    datatype = from_config(model_config_pb2.DataType.Name(tensor.data_type))
    assert datatype is not None, "no server takes an input without a type"
    shape = [1] * bool(max_batch_size) + [max(dim, 1) for dim in tensor.dims]
    return Tensor(tensor.name, datatype, np.full(shape, datatype.nothing, datatype.numpy))


def _labels(tensor: Tensor) -> tuple[str, ...]:
    """The names in order of their classes, of `value:index[:label]`; an index has itself."""
    classes = (one.decode(errors="replace").split(":", 2) for one in tensor.array.ravel().tolist())
    by_index = {int(found[1]): found[-1] if len(found) == 3 else found[1] for found in classes}
    return tuple(by_index.get(index, str(index)) for index in range(max(by_index, default=-1) + 1))
