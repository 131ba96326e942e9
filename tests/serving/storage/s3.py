"""A real S3 server on the loopback address, which can be away, and whose answers can be held up."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import BaseWSGIServer, make_server

PREFIX: Final = "prod/models"

# Called with a request's method and path and its Range before it is answered; what it gives, if it
# gives anything, is the answer: a status and a body.
Hook = Callable[[str, str, str], tuple[str, bytes] | None]


class _Quiet(MotoRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nobody reads it."""


class S3:
    """The server; `requests` are its requests for contents so far: path and range."""

    def __init__(self) -> None:
        self.hook: Hook | None = None
        self.requests: list[str] = []
        self._application = DomainDispatcherApplication(create_backend_app)
        self._port = self._buckets = 0
        self.start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer, with what was put before, at the address from before."""
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", self._port, self._answer, threaded=True, request_handler=_Quiet
        )
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        """Be away."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def new_bucket(self) -> "Bucket":
        """A bucket of a name that is not taken."""
        self._buckets += 1
        return Bucket(self, f"bucket-{self._buckets}")

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        byte_range = environ.get("HTTP_RANGE", "")
        if method == "GET" and byte_range:
            self.requests.append(f"{path} {byte_range}")
        answer = self.hook(method, path, byte_range) if self.hook else None
        if answer is None:
            return self._application(environ, start_response)  # type: ignore[no-any-return]
        status, body = answer
        start_response(status, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]


class Bucket:
    """A bucket with a repository below a prefix; names are relative to that."""

    def __init__(self, server: S3, name: str) -> None:
        self.server = server
        self.name = name
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://{server.address}",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        self._client.create_bucket(Bucket=name)

    @property
    def url(self) -> str:
        """The repository's, as Triton takes it."""
        return f"s3://{self.server.address}/{self.name}/{PREFIX}"

    def put(self, name: str, content: bytes | str) -> None:
        """Upload an object, as a client does."""
        body = content.encode() if isinstance(content, str) else content
        self._client.put_object(Bucket=self.name, Key=f"{PREFIX}/{name}", Body=body)

    def put_as_named(self, name: str, content: bytes) -> None:
        """The same for a name that a client would tidy up."""
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(self.name, f"{PREFIX}/{name}", content)

    def remove(self, name: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self.name, Key=f"{PREFIX}/{name}")

    def close(self) -> None:
        """Close the connections for uploads."""
        self._client.close()
