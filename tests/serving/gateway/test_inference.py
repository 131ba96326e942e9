"""Large tensors leave from where they lie, and hold on to nothing but themselves."""

import json
import tempfile
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, NotFound, Unsupported
from serving.gateway.answers import Answer
from serving.gateway.inference import Inference
from serving.gateway.routing import response
from serving.shared_memory import Regions
from serving.types import InferenceRequest, InferenceResponse, Tensor
from serving.wire import rest, rest_answers
from tests.serving.gateway.scripted import ScriptedEngine
from tests.serving.gateway.threads import threads_of

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


async def same(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    yield InferenceResponse("m", "1", request.inputs)


def text(size: int, **more: Any) -> bytes:
    item = {"name": "x", "shape": [size], "datatype": "FP32", "data": [1.5] * size}
    return json.dumps({"inputs": [item]} | more).encode()


@pytest.mark.parametrize(("size", "is_aside"), [(1000, False), (200_000, True)])
async def test_others_go_on_while_long_json_is_read_and_written(
    monkeypatch: pytest.MonkeyPatch, size: int, is_aside: bool
) -> None:
    reading = threads_of(monkeypatch, rest, "decode_infer")
    writing = threads_of(monkeypatch, rest_answers, "encode_infer")

    answer = await Inference(ScriptedEngine(m=same), None)("m", "", text(size), None, "")

    assert json.loads(whole(answer))["outputs"][0]["data"] == [1.5] * size
    own = threading.current_thread()
    assert [thread is not own for thread in reading + writing] == [is_aside, is_aside]


async def test_only_the_loop_s_thread_uses_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 200_000
    place = {"shared_memory_region": "region", "shared_memory_byte_size": 4 * size}
    request = text(size, outputs=[{"name": "x", "parameters": place}])
    regions = Regions()
    finding = threads_of(monkeypatch, regions, "find")
    writing = threads_of(monkeypatch, rest_answers, "encode_infer")

    with tempfile.NamedTemporaryFile(dir="/dev/shm") as memory:
        memory.truncate(4 * size)
        regions.register("region", f"/{Path(memory.name).name}", 0, 4 * size)
        await Inference(ScriptedEngine(m=same), regions)("m", "", request, None, "")
        assert memory.read() == np.full(size, 1.5, np.float32).tobytes()
        regions.clear()

    assert set(finding + writing) == {threading.current_thread()}


async def test_long_json_is_refused_in_the_same_words() -> None:
    inference = Inference(ScriptedEngine(m=same), None)
    place = {"shared_memory_region": "region", "shared_memory_byte_size": 4}
    placed = text(200_000, outputs=[{"name": "x", "parameters": place}])

    with pytest.raises(InvalidArgument, match="expected 200000 elements"):
        await inference("m", "", text(200_000).replace(b", 1.5]", b"]"), None, "")
    with pytest.raises(Unsupported, match="does not offer shared memory"):
        await inference("m", "", placed, None, "")
    with pytest.raises(NotFound, match="'unknown'"):
        await inference("unknown", "", text(200_000)[:-1], None, "")
