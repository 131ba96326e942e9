"""What traces tell of the way of a request and its answer."""

from typing import Any, cast

import pytest

from serving.engine.base import Engine
from serving.errors import Cancelled
from serving.gateway import traced
from serving.tracing.config import TraceConfig
from serving.tracing.settings import TraceSettings
from serving.tracing.trace import Trace
from serving.tracing.tracer import Tracer
from serving.types import InferenceRequest


class Kept:
    """An exporter that keeps the names of what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def export(self, trace: Trace, settings: TraceSettings) -> None:
        self.events += [name for name, _ in trace.events]

    def close(self) -> None:
        pass


class Left:
    """An engine whose clients have always gone."""

    async def infer(self, request: InferenceRequest) -> None:
        raise Cancelled("the client has gone")


async def test_what_was_sent_to_nobody_is_not_told_as_sent() -> None:
    kept = Kept()
    tracer = Tracer(TraceConfig(settings=TraceSettings(("TIMESTAMPS",), rate=1)), kept)
    engine = traced.engine(cast(Engine, Left()), tracer)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await engine.infer(InferenceRequest(model="m", inputs=()))

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    with pytest.raises(Cancelled):
        await traced.http(application, tracer)({"type": "http", "headers": []}, receive, send)
    assert kept.events == ["HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", "REQUEST_END"]
