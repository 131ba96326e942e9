"""`--triton-status-codes`: the same failures under Triton's own numbers, over both protocols."""

from collections.abc import AsyncGenerator
from typing import Any

import click
import grpc
import httpx
import pytest
from click.testing import CliRunner
from tritonclient.grpc import service_pb2_grpc

from serving.errors import DeadlineExceeded, Overloaded, RegionTooSmall, ServingError, UnfitOverride
from serving.gateway.app import create_app
from serving.gateway.extensions import Extensions
from serving.gateway.lifecycle import Lifecycle
from serving.logs import Logs
from serving.settings import Settings, options
from serving.types import InferenceRequest, InferenceResponse
from tests.serving.gateway.scripted import Script, ScriptedEngine, echo, message, response, serving

FAILURES = [
    (Overloaded("full"), (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")),
    (DeadlineExceeded("late"), (504, "DEADLINE_EXCEEDED"), (503, "UNAVAILABLE")),
    (UnfitOverride("no"), (400, "INVALID_ARGUMENT"), (500, "INTERNAL")),
    (RegionTooSmall("no"), (400, "INVALID_ARGUMENT"), (500, "INTERNAL")),
]
BODIES = [(b"no JSON", 400, 500), (bytes(2 * 1024), 413, 400)]


def failing(error: ServingError) -> Script:
    async def answer(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        if request.model:
            raise error
        yield response(request, 0.0)

    return answer


async def post(engine: ScriptedEngine, content: bytes, like_triton: bool) -> httpx.Response:
    settings = Settings(triton_status_codes=like_triton, http_max_input_size=1024)
    app = create_app(engine, Lifecycle(engine), settings, Extensions.of(settings, Logs(settings)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        return await client.post("/v2/models/m/generate", content=content)


async def call(engine: ScriptedEngine, like_triton: bool) -> grpc.aio.AioRpcError:
    async with (
        serving(engine, triton_status_codes=like_triton) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = (("triton_grpc_error", "true"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelStreamInfer(iter([message("m")]), metadata=metadata).read()
        return caught.value


@pytest.mark.parametrize(("error", "own", "tritons"), FAILURES)
async def test_a_failure_has_the_status_of_the_table_in_force(
    error: ServingError, own: tuple[int, str], tritons: tuple[int, str]
) -> None:
    engine = ScriptedEngine(m=failing(error))
    for like_triton, expected in ((False, own), (True, tritons)):
        answer = await post(engine, b'{"x": [1.0]}', like_triton)
        refusal = await call(engine, like_triton)
        assert (answer.status_code, refusal.code().name) == expected
        assert answer.json() == {"error": error.message}
        assert refusal.details() == error.message


@pytest.mark.parametrize(("content", "own", "tritons"), BODIES)
async def test_what_is_wrong_with_a_body_has_it_too(content: bytes, own: int, tritons: int) -> None:
    engine = ScriptedEngine(m=echo)
    assert (await post(engine, content, False)).status_code == own
    assert (await post(engine, content, True)).status_code == tritons


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], False),
        (["--triton-status-codes"], True),
        (["--triton-status-codes", "--http-port=0"], True),
        (["--triton-status-codes=false"], False),
    ],
)
def test_the_flag_may_stand_alone(arguments: list[str], expected: bool) -> None:
    @click.command()
    @options
    def command(**values: Any) -> None:
        click.echo(Settings(**values).triton_status_codes)

    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.output) == (0, f"{expected}\n")
