"""TLS between the gateway and servers: who is trusted, who is shown, what is wrong otherwise."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine_settings import EngineKind
from serving.errors import ServingError, Unavailable
from serving.settings import Settings
from serving.triton.dialling import Dialling
from serving.triton.engine import TritonEngine
from serving.triton.fleet import Fleet
from serving.types import InferenceRequest, Tensor
from tests.e2e.certificates import Authority, Files
from tests.serving.gateway.scripted import ScriptedEngine, echo, serving

REQUEST = InferenceRequest("m", (Tensor("x", Datatype.FP32, np.array([3], np.float32)),))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return authority.issue(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Of another authority."""
    return Authority().issue(tmp_path_factory.mktemp("stranger"))


def server_flags(files: Files) -> dict[str, Any]:
    return {
        "grpc_use_ssl_mutual": True,
        "grpc_server_cert": str(files.certificate),
        "grpc_server_key": str(files.key),
        "grpc_root_cert": str(files.root),
    }


def client_flags(root: Files, own: Files | None = None) -> dict[str, Any]:
    flags: dict[str, Any] = {"triton_use_ssl": True, "triton_root_cert": str(root.root)}
    if own:
        flags["triton_client_cert"] = str(own.certificate)
        flags["triton_client_key"] = str(own.key)
    return flags


def settings(address: str, **flags: Any) -> Settings:
    return Settings(engine=EngineKind.TRITON, triton_url=(address,), exit_timeout_secs=5, **flags)


@asynccontextmanager
async def asking(address: str, **flags: Any) -> AsyncIterator[TritonEngine]:
    engine = TritonEngine(settings(address, **flags))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_with_the_right_certificates_is_asked(files: Files, host: str) -> None:
    async with serving(ScriptedEngine(m=echo), **server_flags(files)) as address:
        url = f"{host}:{address.rpartition(':')[2]}"
        async with asking(url, **client_flags(files, files)) as engine:
            assert (await engine.infer(REQUEST)).outputs[0].array.tolist() == [3.0]


# A name of this machine that is in no certificate.
OTHER_NAME = "127.1"


@pytest.mark.parametrize(
    ("host", "flags", "cure"),
    [
        pytest.param(
            "localhost",
            lambda files, strangers: client_flags(strangers, files),
            r"its certificate is refused \([\w -]+\): --triton-root-cert must hold who vouches",
            id="another authority",
        ),
        pytest.param(
            OTHER_NAME,
            lambda files, strangers: client_flags(files, files),
            rf"its certificate is not for {OTHER_NAME}: call it in --triton-url by a name that is "
            "in there",
            id="another name",
        ),
        pytest.param(
            "localhost",
            lambda files, strangers: client_flags(files),
            "it has closed the connection: it may want a --triton-client-cert",
            id="nobody shown",
        ),
        pytest.param(
            "localhost",
            client_flags,
            "it has closed the connection: it may want a --triton-client-cert, and one that it "
            "knows",
            id="a stranger shown",
        ),
        pytest.param(
            "localhost",
            lambda files, strangers: {},
            r"it has closed the connection: it may speak TLS \(--triton-use-ssl\), or no gRPC",
            id="not encrypted",
        ),
    ],
)
async def test_without_a_connection_the_log_says_why(
    files: Files,
    strangers: Files,
    host: str,
    flags: Callable[[Files, Files], dict[str, Any]],
    cure: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(ScriptedEngine(m=echo), **server_flags(files)) as address:
        port = address.rpartition(":")[2]
        async with asking(f"{host}:{port}", **flags(files, strangers)) as engine:
            with pytest.raises(Unavailable, match="no Triton server answers"):
                await engine.infer(REQUEST)
    assert re.search(f"127.0.0.1:{port} is unreachable: {cure}", caplog.text)


async def test_a_server_that_does_not_speak_tls_is_told_of(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(ScriptedEngine(m=echo)) as address,
        asking(address, **client_flags(files)) as engine,
    ):
        assert not await engine.ready()
    assert f"{address} is unreachable: it does not speak TLS: have it do so" in caplog.text


async def test_the_port_of_rest_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with asking(f"{host}:{port}") as engine:
            assert not await engine.ready()
    assert "it does not speak gRPC: give the port of gRPC, Triton's own is 8001" in caplog.text


async def test_nobody_at_all_is_told_of_in_the_systems_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asking("127.0.0.1:9"):
        pass
    [said] = [one.getMessage() for one in caplog.records if "unreachable" in one.getMessage()]
    assert said.startswith("127.0.0.1:9 is unreachable: ")
    assert "Connection refused" in said
    assert "failed to connect to all addresses" not in said


async def test_renewed_certificates_are_for_new_connections_and_bad_ones_for_none(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files = authority.issue(tmp_path)
    dialling = Dialling(settings("a:1", **client_flags(files, files)))
    first = dialling.identity

    dialling.refresh()
    assert dialling.identity is first
    authority.issue(tmp_path)
    dialling.refresh()
    second = dialling.identity
    assert second is not first
    files.key.write_bytes(b"")
    dialling.refresh()
    assert dialling.identity is second
    assert "holds no private key in PEM; the certificates for the Triton servers" in caplog.text


async def test_a_new_connection_takes_the_place_of_one_with_older_certificates(
    authority: Authority, files: Files, tmp_path: Path
) -> None:
    own = authority.issue(tmp_path)
    async with serving(ScriptedEngine(m=echo), **server_flags(files)) as address:
        flags = settings(address, **client_flags(files, own))
        fleet = Fleet(flags.triton_servers, Dialling(flags), asyncio.Event().set)
        await fleet.open()
        try:
            [before] = fleet.links
            await fleet.look_up()
            assert list(fleet.links) == [before]

            authority.issue(tmp_path)
            await fleet.look_up()
            [after] = fleet.links
            assert after is not before
            assert fleet.is_ready

            # Whom the server does not know is no successor.
            Authority().issue(tmp_path)
            await fleet.look_up()
            assert list(fleet.links) == [after]
            assert fleet.is_ready
        finally:
            await fleet.close(5)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda files: files.root.write_bytes(b"none"), "--triton-root-cert {0} holds no cert"),
        (lambda files: files.root.unlink(), "cannot read --triton-root-cert {0}: No such file"),
        (lambda files: files.key.write_bytes(b""), "--triton-client-key {1} holds no private key"),
    ],
)
def test_files_that_are_none_end_the_start(
    authority: Authority, tmp_path: Path, spoil: Callable[[Files], Any], complaint: str
) -> None:
    files = authority.issue(tmp_path)
    spoil(files)
    with pytest.raises(ServingError) as refused:
        Dialling(settings("a:1", **client_flags(files, files)))
    assert refused.value.message.startswith(complaint.format(files.root, files.key))
