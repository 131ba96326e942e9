"""ModelStreamInfer over a real connection, with an engine that does what each test needs."""

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.errors import Internal
from serving.types import InferenceRequest, InferenceResponse
from tests.serving.gateway.scripted import (
    SPEC,
    ScriptedEngine,
    after,
    echo,
    message,
    response,
    serving,
)

AS_STATUS = (("triton_grpc_error", "true"),)


@asynccontextmanager
async def open_stream(
    engine: ScriptedEngine, settings: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Any]:
    """A stream to a server over `engine`; what a test leaves open is cancelled."""
    async with (
        serving(engine, **settings or {}) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(**options)
        try:
            yield call
        finally:
            call.cancel()


async def send(call: Any, *messages: Any) -> None:
    for each in messages:
        await call.write(each)


async def receive_all(call: Any, *messages: Any) -> list[Any]:
    """All that comes once these were sent and nothing follows them."""
    await send(call, *messages)
    await call.done_writing()
    found = []
    while (each := await call.read()) is not grpc.aio.EOF:
        found.append(each)
    return found


def ids(messages: Sequence[Any]) -> list[str]:
    return [each.infer_response.id for each in messages]


def is_final(answer: Any) -> bool:
    parameter = answer.infer_response.parameters["triton_final_response"]
    assert parameter.WhichOneof("parameter_choice") == "bool_param"
    return bool(parameter.bool_param)


async def fail(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    if request.id:
        raise Internal(f"{request.id} failed")
    yield response(request)


async def crash(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    yield response(request, 1 // len(request.outputs))


async def count(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    """As many responses as the request says."""
    for index in range(int(request.inputs[0].array[0])):
        yield response(request, index)


async def test_each_request_gets_its_response_which_is_final() -> None:
    async with open_stream(ScriptedEngine(echo=echo)) as call:
        await send(call, message("echo", "a", 1.0), message("echo", "b", 2.0))
        answers = await receive_all(call)
    assert ids(answers) == ["a", "b"]
    assert all(map(is_final, answers))
    assert [each.infer_response.outputs[0].name for each in answers] == ["x", "x"]
    assert await call.code() is grpc.StatusCode.OK


async def test_requests_run_beside_each_other() -> None:
    engine = ScriptedEngine(wait=after(lambda: engine.until(lambda: len(engine.begun) == 3)))
    async with open_stream(engine) as call:
        await send(call, *(message("wait", id) for id in "abc"))
        assert ids(await receive_all(call)) == ["a", "b", "c"]
    assert engine.begun == ["a", "b", "c"]


async def test_responses_keep_the_order_of_the_requests_however_long_these_take() -> None:
    overtaken = asyncio.Event()

    async def overtake(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        overtaken.set()
        yield response(request)

    engine = ScriptedEngine(late=after(overtaken.wait), overtake=overtake)
    async with open_stream(engine) as call:
        await send(call, message("late", "a"), message("overtake", "b"), message("overtake", "c"))
        assert ids(await receive_all(call)) == ["a", "b", "c"]


async def test_responses_of_decoupled_models_come_as_they_are_made() -> None:
    told = asyncio.Event()
    engine = ScriptedEngine(["count"], late=after(told.wait), count=count)
    async with open_stream(engine) as call:
        await send(call, message("late", "a"), message("count", "b", 3))
        early = [await call.read() for _ in range(3)]
        told.set()
        late = await receive_all(call)
    assert ids(early) == ["b", "b", "b"]
    assert ids(late) == ["a"]
    assert not any(map(is_final, early))
    assert all(map(is_final, late))


async def test_a_decoupled_model_may_give_no_response() -> None:
    async with open_stream(ScriptedEngine(["count"], count=count, echo=echo)) as call:
        await send(call, message("count", "a", 0), message("echo", "b"))
        assert ids(await receive_all(call)) == ["b"]


@pytest.mark.parametrize("responses", [0, 2])
async def test_the_end_of_a_decoupled_models_responses_is_told_where_it_is_asked_for(
    responses: int,
) -> None:
    async with open_stream(ScriptedEngine(["count"], count=count)) as call:
        wants_end = {"triton_enable_empty_final_response": True}
        await send(call, message("count", "a", responses, **wants_end))
        *answers, end = await receive_all(call)
    assert len(answers) == responses
    assert not any(map(is_final, answers))
    assert is_final(end)
    assert ids([end]) == ["a"]
    assert not end.infer_response.outputs


async def test_one_response_needs_no_empty_one_behind_it() -> None:
    async with open_stream(ScriptedEngine(echo=echo)) as call:
        await send(call, message("echo", "a", triton_enable_empty_final_response=True))
        [answer] = await receive_all(call)
    assert is_final(answer)
    assert answer.infer_response.outputs


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (message("nobody", "b"), "Request for unknown model: 'nobody' is not found"),
        (message("fail", "b"), "b failed"),
        (message("crash", "b"), "internal error; see the server's log"),
        (message("echo", "b", triton_other="x"), "parameters.triton_other: the name is reserved"),
        (
            message("echo", "b", triton_enable_empty_final_response="yes"),
            "invalid value type for 'triton_enable_empty_final_response' parameter, expected "
            "bool_param.",
        ),
    ],
)
async def test_an_error_answers_its_request_and_the_stream_goes_on(bad: Any, expected: str) -> None:
    engine = ScriptedEngine(echo=echo, fail=fail, crash=crash)
    async with open_stream(engine) as call:
        await send(call, message("echo", "a"), bad, message("echo", "c"))
        before, error, after_it = await receive_all(call)
    assert ids([before, error, after_it]) == ["a", "b", "c"]
    assert error.error_message.startswith(expected)
    assert is_final(error)
    assert not before.error_message
    assert not after_it.error_message
    assert await call.code() is grpc.StatusCode.OK


async def test_an_error_in_the_midst_of_responses_ends_them() -> None:
    async def break_off(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        yield response(request)
        raise Internal("broke off")

    async with open_stream(ScriptedEngine(["m"], m=break_off)) as call:
        await send(call, message("m", "a", triton_enable_empty_final_response=True))
        answer, error = await receive_all(call)
    assert not is_final(answer)
    assert error.error_message == "broke off"
    assert is_final(error)


async def test_the_first_error_ends_the_stream_with_a_status_where_the_client_wants_that() -> None:
    async def fail_late(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        await engine.until(lambda: "forever" in engine.begun)
        async for one in fail(request):
            yield one

    engine = ScriptedEngine(echo=echo, fail=fail_late, forever=after(asyncio.Event().wait))
    async with open_stream(engine, metadata=AS_STATUS) as call:
        await send(call, *(message(model, model) for model in ("echo", "fail", "echo", "forever")))
        assert ids([await call.read()]) == ["echo"]
        with pytest.raises(grpc.aio.AioRpcError, match="fail failed") as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        await engine.until(lambda: "forever" in engine.ended)


@pytest.mark.parametrize("value", ["false", "True", "1", ""])
async def test_nothing_but_true_asks_for_errors_as_a_status(value: str) -> None:
    async with open_stream(
        ScriptedEngine(fail=fail), metadata=(("triton_grpc_error", value),)
    ) as call:
        await send(call, message("fail", "a"))
        [answer] = await receive_all(call)
    assert answer.error_message == "a failed"


async def test_bytes_that_are_no_message_end_the_stream() -> None:
    async with (
        serving(ScriptedEngine(echo=echo)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
        await call.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError, match="not a valid inference") as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_that_cancels_frees_its_requests() -> None:
    engine = ScriptedEngine(["endless"], forever=after(asyncio.Event().wait), endless=endless)
    long = "b" * 10_000  # few such answers are made before a window is full
    async with open_stream(engine) as call:
        await send(call, message("forever", "a"), message("endless", long))
        assert ids([await call.read()]) == [long]
        call.cancel()
        await engine.until(lambda: set(engine.ended) == {"a", long})


async def endless(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    while True:
        yield response(request)


async def test_a_client_that_does_not_read_holds_up_its_model() -> None:
    # More than any window holds: each response bears the id of its request.
    many, identifier = 10_000, "a" * 10_000
    made = []

    async def count_up(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        for index in range(many):
            made.append(index)
            yield response(request)

    engine = ScriptedEngine(["m"], m=count_up)
    async with open_stream(engine, timeout=1) as call:
        await send(call, message("m", identifier))
        await engine.until(lambda: engine.ended == [identifier])
    assert len(made) < many


async def test_the_deadline_of_the_stream_frees_its_requests() -> None:
    engine, patience = ScriptedEngine(forever=after(asyncio.Event().wait)), 0.2
    # Where the machine is slow, time may be up before the request has reached the server.
    while not engine.begun:
        async with open_stream(engine, timeout=patience) as call:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await receive_all(call, message("forever", "a"))
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if engine.begun:
                await engine.until(lambda: engine.ended == ["a"])
        patience *= 2


async def test_requests_know_the_deadline_of_the_stream() -> None:
    deadlines = []

    async def note(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        deadlines.append(request.deadline)
        yield response(request)

    for timeout in (None, 1000):
        async with open_stream(ScriptedEngine(note=note), timeout=timeout) as call:
            await send(call, message("note"))
            await receive_all(call)
    assert deadlines[0] is None
    assert deadlines[1] is not None


async def most_under_way(limit: int, request: Any, **settings: Any) -> int:
    """How many of the requests on one stream the engine gets while it answers none."""
    full = asyncio.Event()
    engine = ScriptedEngine(wait=after(full.wait))
    many = 2 * limit
    async with open_stream(engine, settings) as call:
        sending = asyncio.create_task(send(call, *[request] * many))
        await engine.until(lambda: len(engine.begun) == limit)
        full.set()
        for _ in range(many):
            await call.read()
        await sending
    assert len(engine.ended) == many
    return engine.most


async def test_a_stream_has_only_so_many_requests_under_way() -> None:
    assert await most_under_way(1024, message("wait")) == 1024


async def test_a_stream_has_only_so_many_bytes_under_way() -> None:
    request = message("wait", "x" * 1000)
    limit = 3 * request.ByteSize() + 1000
    assert await most_under_way(3, request, http_max_input_size=limit) == 3


async def test_a_server_that_stops_answers_what_it_read_and_ends_the_stream() -> None:
    go_on = asyncio.Event()
    engine = ScriptedEngine(wait=after(go_on.wait))
    async with serving(engine) as address:
        channel = grpc.aio.insecure_channel(address)
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        await send(call, message("wait", "a"))
        await engine.until(lambda: engine.begun == ["a"])
        asyncio.get_running_loop().call_later(0.1, go_on.set)
    # The block ends when the server has stopped.
    async with channel:
        assert ids([await call.read()]) == ["a"]
        with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping") as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_is_idle_does_not_hold_up_the_stop() -> None:
    async with serving(ScriptedEngine(echo=echo)) as address:
        channel = grpc.aio.insecure_channel(address)
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        await send(call, message("echo", "a"))
        assert ids([await call.read()]) == ["a"]
        stopped_from = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped_from < 10
    await channel.close()


async def one_number(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    """The model that answers with little, whatever it is given."""
    yield response(request)


def large(size: int, model: str = "one") -> Any:
    """A request of so many bytes."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=SPEC.name, datatype="FP32", shape=[size // 4])
    request.raw_input_contents.append(bytes(size))
    return request


async def settled(predicate: Callable[[], bool]) -> None:
    """Until `predicate` is true, which tasks that have nothing to wait for soon see to."""
    for _ in range(1000):
        if predicate():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def test_an_open_stream_keeps_no_request_that_is_answered() -> None:
    size = 4 * 1024 * 1024
    async with open_stream(ScriptedEngine(one=one_number)) as call:
        tracemalloc.start()
        try:
            await send(call, large(size))
            await call.read()
            await settled(lambda: tracemalloc.get_traced_memory()[0] < size)
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("metadata", [(), AS_STATUS], ids=["in band", "as a status"])
async def test_a_request_that_failed_goes_at_once(metadata: Any) -> None:
    errors: list[weakref.ref[Internal]] = []

    async def fail_once(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        if not errors:
            errors.append(weakref.ref(error := Internal("failed")))
            try:
                raise error
            finally:
                del error
        yield response(request)

    async with open_stream(ScriptedEngine(fail=fail_once), metadata=metadata) as call:
        gc.disable()
        try:
            await send(call, message("fail", "a"))
            with nullcontext() if not metadata else pytest.raises(grpc.aio.AioRpcError):
                await call.read()
            await settled(lambda: errors[0]() is None)
        finally:
            gc.enable()


async def test_large_requests_have_room_among_those_of_all_streams_until_they_are_answered() -> (
    None
):
    size = 4 * 1024 * 1024
    go_on = asyncio.Event()

    async def held(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        await go_on.wait()
        yield response(request)

    engine = ScriptedEngine(held=held, one=one_number)
    settings = {"max_inflight_bytes": size + size // 2}
    async with (
        serving(engine, **settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        open_one = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
        first, second, third = open_one(), open_one(), open_one()
        await send(first, large(size, "held"))
        await engine.until(lambda: len(engine.begun) == 1)
        # The reader waits for more, and holds room for what is not answered all the same.
        await send(first, message("held"))
        await engine.until(lambda: len(engine.begun) == 2)
        await send(second, large(size))
        with pytest.raises(grpc.aio.AioRpcError, match="--max-inflight-bytes") as refused:
            await second.read()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        go_on.set()
        assert len(await receive_all(first)) == 2
        await send(third, large(size))
        assert len(await receive_all(third)) == 1
