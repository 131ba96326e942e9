"""Large tensors leave from where they lie, and hold on to nothing but themselves."""

import json
from collections.abc import AsyncGenerator
from typing import Any, Final

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.gateway.answers import Answer
from serving.gateway.inference import Inference
from serving.gateway.routing import response
from serving.types import InferenceRequest, InferenceResponse, Tensor
from tests.serving.gateway.scripted import ScriptedEngine

LARGE: Final = 64 * 1024  # bytes
HEAD: Final = json.dumps(
    {
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0]}],
        "parameters": {"binary_data_output": True},
    }
).encode()


async def answered(*outputs: Any, accepted: str = "") -> Answer:
    """The answer of a model that gives these arrays of FP32."""

    async def model(_: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        tensors = [Tensor(f"y{index}", Datatype.FP32, array) for index, array in enumerate(outputs)]
        yield InferenceResponse("m", "1", tuple(tensors))

    return await Inference(ScriptedEngine(m=model), None)("m", "", HEAD, None, accepted)


def whole(answer: Answer) -> bytes:
    return bytes(response(answer).body)


def numbers(size: int) -> Any:
    return np.random.default_rng(0).random(size, np.float32)


async def test_large_tensors_are_sent_from_where_they_lie() -> None:
    small, large = numbers(4), numbers(LARGE)
    answer = await answered(small, large)
    assert [
        np.shares_memory(np.frombuffer(sent, np.float32), large) for sent in answer.tensors
    ] == [
        False,
        True,
    ]
    assert whole(answer).endswith(b"}" + small.tobytes() + large.tobytes())


async def test_a_request_s_share_of_a_batch_leaves_the_batch_behind() -> None:
    batch = numbers(8 * LARGE).reshape(8, LARGE)
    answer = await answered(batch[2:3])
    assert not np.shares_memory(np.frombuffer(answer.tensors[0], np.float32), batch)
    assert whole(answer).endswith(b"}" + batch[2].tobytes())


async def test_small_tensors_are_sent_with_the_rest() -> None:
    small = numbers(4)
    answer = await answered(small, small)
    assert answer.tensors == ()
    assert answer.content.endswith(b"}" + small.tobytes() + small.tobytes())


@pytest.mark.parametrize("accepted", ["gzip", "br"])
async def test_what_is_packed_is_so_as_a_whole(accepted: str) -> None:
    answer = await answered(np.zeros(LARGE, np.float32), accepted=accepted)
    assert answer.tensors == ()
    assert ("Content-Encoding" in answer.headers) == (accepted == "gzip")
