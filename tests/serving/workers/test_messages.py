"""What travels between processes arrives as it was sent, however the bytes come in."""

import asyncio
import itertools
import marshal
import socket
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from serving import errors, types
from serving.dtypes import Datatype
from serving.errors import ServingError
from serving.statistics import (
    BuildState,
    CacheStatistics,
    FailureReason,
    ServerFailure,
    ServerStatistics,
    VersionStatistics,
)
from serving.types import InferenceRequest, InferenceResponse, RequestedOutput, Tensor, Timing
from serving.workers import failures, inference, records
from serving.workers.channel import Channel

TIMING = Timing(1, 2, 3, 4, 5, company=6, queued_at=7)


def carried(values: Any) -> Any:
    return marshal.loads(marshal.dumps(values, 2))


def tensor(datatype: Datatype) -> Tensor:
    elements: Any = [[0, 1, 2], [3, 4, 5]]
    if datatype is Datatype.BYTES:
        elements = [[b"", b"one", b"\0two"], [b"3", b"4", b"5"]]
    return Tensor("x", datatype, np.array(elements, datatype.numpy))


def carried_request(request: InferenceRequest) -> InferenceRequest:
    return inference.to_request(carried(inference.from_request(request, np.ascontiguousarray)))


def assert_equal(one: Tensor, other: Tensor) -> None:
    assert (one.name, one.datatype) == (other.name, other.datatype)
    assert one.array.dtype == other.array.dtype
    np.testing.assert_array_equal(one.array, other.array)


@pytest.mark.parametrize("datatype", Datatype)
def test_a_request_arrives_as_it_was_sent(datatype: Datatype) -> None:
    sent = InferenceRequest(
        "m",
        (tensor(datatype),),
        version="3",
        id="me",
        outputs=(RequestedOutput("y", 2),),
        parameters={"a": True, "b": 1, "c": 0.5, "d": "e"},
        deadline=2**62,
        wants_one_response=True,
    )
    came = inference.to_request(carried(inference.from_request(sent, np.ascontiguousarray)))
    assert_equal(came.inputs[0], sent.inputs[0])
    for field in fields(sent):
        if field.name != "inputs":
            assert getattr(sent, field.name) != field.default, "it would be lost unseen"
            assert getattr(came, field.name) == getattr(sent, field.name)


@pytest.mark.parametrize("timing", [None, TIMING])
def test_a_response_arrives_as_it_was_sent(timing: Timing | None) -> None:
    sent = InferenceResponse(
        "m", "1", (tensor(Datatype.FP16),), "me", {"a": 1}, timing=timing, is_last=True
    )
    came = inference.to_response(carried(inference.from_response(sent, np.ascontiguousarray)))
    assert_equal(came.outputs[0], sent.outputs[0])
    assert came.timing == timing
    assert came.timing is None or came.timing.queued_at == TIMING.queued_at
    for name in ("model", "version", "id", "parameters", "is_last"):
        assert getattr(came, name) == getattr(sent, name)


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), ()])
def test_tensors_of_any_size_travel(shape: tuple[int, ...]) -> None:
    sent = Tensor("x", Datatype.FP32, np.ones(shape, np.float32))
    came = carried_request(InferenceRequest("m", (sent,)))
    assert_equal(came.inputs[0], sent)


def test_arrays_travel_that_do_not_lie_in_one_piece() -> None:
    sent = Tensor("x", Datatype.INT64, np.arange(6).reshape(2, 3).T)
    came = carried_request(InferenceRequest("m", (sent,)))
    assert_equal(came.inputs[0], sent)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, ServingError)])
def test_an_error_arrives_as_it_was_raised(kind: type[ServingError]) -> None:
    came = failures.to_error(carried(failures.from_error(kind("so it is"))))
    assert type(came) is kind
    assert came.message == "so it is"


def test_an_error_of_the_engines_own_arrives_as_what_it_is_one_of() -> None:
    class Circle(errors.LoadFailed):
        pass

    assert type(failures.to_error(failures.from_error(Circle("x")))) is errors.LoadFailed


def test_an_overload_says_when_to_come_again() -> None:
    came = failures.to_error(carried(failures.from_error(errors.Overloaded("full", 2.5))))
    assert isinstance(came, errors.Overloaded)
    assert came.retry_after == 2.5


@pytest.mark.parametrize(
    "record",
    [
        types.ServerMetadata("penstock", "1", ("statistics",)),
        types.IndexEntry("m", "1", types.ModelState.READY, ""),
        types.LoadOverride("{}", {"1/model.onnx": b"\0"}),
        types.TensorSpec("x", Datatype.BF16, (-1, 3), True),
        CacheStatistics(10, used=3),
        ServerStatistics("a:1", True, True, 2, 3, {ServerFailure.LATE: 4}),
        {"probabilities": ("cat", "dog")},
        None,
    ],
    ids=str,
)
def test_a_record_arrives_as_it_was_sent(record: Any) -> None:
    assert records.from_plain(carried(records.to_plain(record))) == record


def test_statistics_arrive_with_all_that_is_counted() -> None:
    sent = VersionStatistics("m", "1", tags={"team": "a"}, acceleration=BuildState.REFUSED)
    sent.record_success(3, 1_000_000, TIMING)
    sent.record_execution(3, TIMING)
    sent.record_failure(FailureReason.CANCELED, 5)
    sent.response(0).succeeded(1, 2)
    came = records.from_plain(carried(records.to_plain(sent)))
    assert records.to_plain(came) == records.to_plain(sent)


def test_what_was_counted_before_is_added_to_what_is_counted_since() -> None:
    before, since, both = (VersionStatistics("m", "1") for _ in range(3))
    for counted in ([before, both], [since, both], [since, both]):
        for one in counted:
            one.record_success(2, 1_000_000, TIMING)
            one.record_execution(2, TIMING)
            one.record_failure(FailureReason.BACKEND, 5)
            one.record_cache_hit(7)
            one.record_cache_miss(8)
            one.record_waste(1, 9)
            one.response(1).failed(3)
    since.merge(before)
    since.last_inference = both.last_inference
    assert records.to_plain(since) == records.to_plain(both)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.data())
def test_messages_are_whole_wherever_the_bytes_are_cut(
    contents: list[bytes], data: st.DataObject
) -> None:
    came: list[Any] = []

    async def feed() -> None:
        channel = Channel(came.append, lambda: None)
        stream = b"".join(
            len(content).to_bytes(8) + content
            for content in (marshal.dumps((content,), 2) for content in contents)
        )
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
        edges = [0, *sorted(cuts), len(stream)]
        for begin, end in itertools.pairwise(edges):
            channel.data_received(stream[begin:end])

    asyncio.run(feed())
    assert came == [(content,) for content in contents]


async def test_what_was_sent_before_the_connection_stood_arrives() -> None:
    ours, theirs = socket.socketpair()
    came: asyncio.Queue[Any] = asyncio.Queue()
    lost = asyncio.Event()
    loop = asyncio.get_running_loop()

    def early() -> Channel:
        channel = Channel(came.put_nowait, lambda: None)
        channel.send(0, "hello")
        return channel

    _, sender = await loop.create_unix_connection(early, sock=ours)
    await loop.create_unix_connection(lambda: Channel(came.put_nowait, lost.set), sock=theirs)
    assert await came.get() == (0, "hello")
    sender.send(1, "last")
    sender.close()
    assert await came.get() == (1, "last")
    await lost.wait()
