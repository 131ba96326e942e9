"""Bytes of whole connections, to the HTTP server over an engine that runs models."""

import asyncio
import atexit
import gzip
import json
import random
import re
from collections.abc import Callable
from functools import cached_property, partial
from typing import Final

import uvicorn
from uvicorn.server import ServerState

from serving.engine.embedded import EmbeddedEngine
from serving.errors import InvalidArgument
from serving.gateway.app import create_app
from serving.gateway.connections import Connections
from serving.gateway.errors import statuses
from serving.gateway.extensions import Extensions
from serving.gateway.hot_lane import HotLane, Lane
from serving.gateway.inference import Inference
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.security import Security
from serving.logs import Logs
from serving.settings import Settings
from tests.fuzz.beside import Client, no_faults, repository
from tests.fuzz.fuzzer import PATIENCE, Hang, Target
from tests.fuzz.structure import in_json
from tests.fuzz.vocabulary import JSON_WORDS

_JSON: Final = {
    "inputs": [
        {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        {"name": "t", "shape": [1, 1], "datatype": "BYTES", "data": ["text"]},
    ],
    "outputs": [{"name": "y"}],
}
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)(content-length: *)\d+")
_WORDS: Final = (
    *JSON_WORDS,
    *(b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"/v2", b"/models/m", b"/versions/1", b"/infer"),
    *(
        b"/generate",
        b"/predict/m",
        b"/stats",
        b"/config",
        b"/..",
        b"%00",
        b"%2f",
        b"%ff",
        b"?",
        b"#",
    ),
    *(
        b" HTTP/1.0",
        b" HTTP/1.1",
        b"\r\n",
        _END,
        b"Content-Length: 5\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(b"Content-Type: image/png\r\n", b"Accept-Encoding: gzip;q=1\r\n", b"1\r\n", b"0\r\n\r\n"),
    *(b"Inference-Header-Content-Length: 0\r\n", b"Content-Type: multipart/form-data\r\n"),
)


class _Server:
    """A server's connections and application over real models, which open at the first use."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._state = ServerState()

    @cached_property
    def _connect(self) -> Callable[[], HotLane]:
        settings = Settings(model_repository=(repository(),))
        engine = EmbeddedEngine(settings)
        atexit.register(self._loop.close)
        self._loop.run_until_complete(engine.start())
        extensions = Extensions.of(settings, Logs(settings))
        app = create_app(engine, Lifecycle(engine), settings, extensions)
        config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
        inference = Inference(engine, extensions.regions)
        limit = settings.http_max_input_size
        authorisation = Security.of(settings).http
        lane = Lane(inference, statuses(False).http, limit, authorisation, is_open=lambda: True)
        others = Connections(settings)
        return partial(HotLane, lane, others, config, self._state, {}, self._loop)

    def answer(self, content: bytes) -> bytes:
        """What comes back; InvalidArgument if the first request is refused, and how it fails."""
        connect = self._connect
        with no_faults():
            answered = self._loop.run_until_complete(self._exchange(connect, content))
        if b"HTTP/1.1 500" in answered:
            raise AssertionError(answered)
        if not answered:
            raise InvalidArgument("no whole request")
        if b"Invalid HTTP request received." in answered:
            raise InvalidArgument("no request")
        if not answered.startswith(b"HTTP/1.1 200"):
            raise InvalidArgument("refused")
        return answered

    async def _exchange(self, connect: Callable[[], HotLane], content: bytes) -> bytes:
        client, tasks = Client(), self._state.tasks
        protocol = connect()
        client.set_protocol(protocol)
        protocol.connection_made(client)
        protocol.data_received(content)
        while tasks and not getattr(protocol.cycle, "more_body", False):
            await _progress(tasks)
        client.get_protocol().connection_lost(None)
        while tasks:
            await _progress(tasks)
        return bytes(client.received)


async def _progress(tasks: set[asyncio.Task[None]]) -> None:
    """Until one of them is done."""
    done, _ = await asyncio.wait(tasks, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        raise Hang


def _request(line: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"{line} HTTP/1.1", "Host: h", *headers]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + _END + body


def _seeds() -> list[bytes]:
    document = json.dumps(_JSON).encode()
    header = json.loads(document)
    for item, size in zip(header["inputs"], (8, 8), strict=True):
        del item["data"]
        item["parameters"] = {"binary_data_size": size}
    text = json.dumps(header).encode()
    binary = text + bytes(8) + b"\4\0\0\0text"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(document), document)
    infer, model = "POST /v2/models/m/infer", "/v2/models/m"
    generate = b'{"id": "g", "a": [1, 2], "t": "text", "more": 1}'
    return [
        _request("GET /v2"),
        _request("GET /v2/health/ready"),
        _request(f"GET {model}/versions/1/config"),
        _request(f"GET {model}") + _request("GET /v2/models/stats"),
        _request("POST /v2/repository/index", b'{"ready": true}'),
        _request(infer, document),
        _request(infer, gzip.compress(document, mtime=0), "Content-Encoding: gzip"),
        _request(infer, binary, f"Inference-Header-Content-Length: {len(text)}"),
        _request(infer, b"", "Transfer-Encoding: chunked") + chunked,
        _request(f"POST {model}/generate", generate),
        _request(f"POST {model}/versions/1/generate_stream", generate),
    ]


def _change(rng: random.Random, content: bytes) -> bytes | None:
    """Changes a JSON body, and has the head tell its size."""
    head, _, body = content.partition(_END)
    changed = in_json(rng, body)
    if changed is None:
        return None
    return _LENGTH.sub(b"\\g<1>%d" % len(changed), head) + _END + changed


TARGETS: Final = (Target("http", _Server().answer, _seeds(), _WORDS, _change),)
