"""How a case is asked of a server, and what of its answer is compared."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc
import httpx
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2_grpc

HEADER_LENGTH: Final = "inference-header-content-length"
# The headers that mean something to a client of the protocol; the type of what an answer holds,
# where that is not an error, comes with them.
HEADERS: Final = ("content-encoding", "accept-encoding", "allow", "location")
SECONDS: Final = 30.0


class Address(Protocol):
    """Either of the servers; the addresses are `host:port`."""

    @property
    def http(self) -> str: ...

    @property
    def grpc(self) -> str: ...

    @property
    def metrics(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """A server and the clients that are connected to it."""

    address: Address
    http: httpx.Client
    channel: grpc.Channel


@contextmanager
def connected(address: Address) -> Iterator[Connection]:
    """Clients of `address` for the block, which send no header that a case does not name."""
    with ExitStack() as stack:
        http = stack.enter_context(
            httpx.Client(
                base_url=f"http://{address.http}",
                timeout=SECONDS,
                # Triton sends a body after the head of a refused HEAD: no request may come after.
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        )
        for name in list(http.headers):
            del http.headers[name]
        yield Connection(
            address,
            http,
            stack.enter_context(grpc.insecure_channel(address.grpc)),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the protocol's own status, what was wrong, or what was asked for."""

    status: int | str
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    trailer: bytes = b""


class Call(Protocol):
    """A request that can be sent to either server."""

    def send(self, to: Connection) -> Answer:
        """Ask and wait for the answer."""


@dataclass(frozen=True, slots=True)
class Http:
    """A request over HTTP, whose bytes are sent as they are."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, to: Connection) -> Answer:
        """Ask and wait for the answer."""
        response = to.http.request(
            self.method, self.path, content=self.content, headers=self.headers
        )
        headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
        if response.is_success and response.content:
            headers["content-type"] = response.headers["content-type"]
        text, trailer = response.content, b""
        if HEADER_LENGTH in response.headers:
            headers[HEADER_LENGTH] = "given"
            length = int(response.headers[HEADER_LENGTH])
            text, trailer = text[:length], text[length:]
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return Answer(response.status_code, "", headers, _events(response.text))
        body = json.loads(text) if text else None
        error = body.pop("error", "") if isinstance(body, dict) else ""
        return Answer(response.status_code, error, headers, body or None, trailer)


def _events(text: str) -> list[Any]:
    """The JSON of each server-sent event, all of which are `data: ...` and an empty line."""
    events = text.split("\n\n")
    assert events[-1] == "", text
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


@dataclass(frozen=True, slots=True)
class Rpc:
    """A unary call of the inference service."""

    method: str
    message: Any
    metadata: Sequence[tuple[str, str]] = ()

    def send(self, to: Connection) -> Answer:
        """Ask and wait for the answer."""
        stub = service_pb2_grpc.GRPCInferenceServiceStub(to.channel)
        try:
            reply = getattr(stub, self.method)(self.message, SECONDS, metadata=self.metadata)
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "")
        body = MessageToDict(reply, preserving_proto_field_name=True)
        return Answer("OK", body=body)


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests on one stream of the inference service, which is open until each has its answer."""

    messages: Sequence[Any]
    metadata: Sequence[tuple[str, str]] = ()

    def send(self, to: Connection) -> Answer:
        """Send all and collect the responses, of which there may be some before an error."""
        answered = threading.Event()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(to.channel)
        call = stub.ModelStreamInfer(self._requests(answered), SECONDS, metadata=self.metadata)
        replies = []
        try:
            for reply in call:
                replies.append(MessageToDict(reply, preserving_proto_field_name=True))
                if len(replies) == len(self.messages):
                    answered.set()
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "", body=replies)
        finally:
            answered.set()
        return Answer("OK", body=replies)

    def _requests(self, answered: threading.Event) -> Iterator[Any]:
        yield from self.messages
        if self.messages:
            answered.wait(SECONDS)
