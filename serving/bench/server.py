"""What a server says of itself and its model, over REST or gRPC alike: the protocol's JSON."""

import http.client
import json
import ssl
from typing import Any, Final, Protocol

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.bench import plan
from serving.bench.plan import Target

_PATIENCE: Final = 10.0  # seconds for each question


class Unanswered(Exception):
    """The server cannot be reached, or refuses; the message says which and why."""


class Server(Protocol):
    """Questions that are not measured; each raises Unanswered.

    The last two are extensions of the protocol: None where a server does not have them.
    """

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""

    def model(self) -> dict[str, Any]:
        """The model's metadata."""

    def config(self) -> dict[str, Any] | None:
        """The model's configuration."""

    def statistics(self) -> dict[str, Any] | None:
        """The model's statistics."""


def server(target: Target) -> Server:
    """The server of a target."""
    if target.protocol is plan.Protocol.GRPC:
        return _GrpcServer(target)
    return _HttpServer(target)


class _HttpServer:
    def __init__(self, target: Target) -> None:
        self._target = target

    def metadata(self) -> dict[str, Any]:
        return self._ask(f"{self._target.prefix}/v2")

    def model(self) -> dict[str, Any]:
        return self._ask(self._target.model_path)

    def config(self) -> dict[str, Any] | None:
        return self._ask_extension(f"{self._target.model_path}/config")

    def statistics(self) -> dict[str, Any] | None:
        return self._ask_extension(f"{self._target.model_path}/stats")

    def _ask(self, path: str) -> dict[str, Any]:
        status, body = self._get(path)
        if status != http.HTTPStatus.OK:
            raise Unanswered(f"{self._target.url} answers {path} with {status}: {_error(body)}")
        return self._document(path, body)

    def _ask_extension(self, path: str) -> dict[str, Any] | None:
        status, body = self._get(path)
        return self._document(path, body) if status == http.HTTPStatus.OK else None

    def _get(self, path: str) -> tuple[int, bytes]:
        kind: Any = http.client.HTTPConnection
        options: dict[str, Any] = {"timeout": _PATIENCE}
        if self._target.tls:
            kind = http.client.HTTPSConnection
            options["context"] = ssl.create_default_context()
        connection = kind(self._target.host, self._target.port, **options)
        try:
            connection.request("GET", path, headers=dict(self._target.headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ssl.SSLCertVerificationError as error:
            raise Unanswered(
                f"{self._target.url}: its certificate is refused: {error.verify_message}; "
                f"{_trust('SSL_CERT_FILE')}"
            ) from error
        except (OSError, UnicodeError) as error:
            raise Unanswered(f"{self._target.url} cannot be reached: {error!s}") from error
        except http.client.HTTPException as error:
            raise Unanswered(
                f"{self._target.url} does not answer by HTTP/1.1: is that its REST port? A gRPC "
                "port is asked by grpc://HOST:PORT"
            ) from error
        finally:
            connection.close()

    def _document(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Unanswered(
                f"{self._target.url} answers {path} with something that is no JSON object: is it "
                "a server of the Open Inference Protocol?"
            )
        return document


class _GrpcServer:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._metadata = [(name.lower(), value) for name, value in target.headers.items()]
        self._model = {"name": target.model, "version": target.version}

    def metadata(self) -> dict[str, Any]:
        return self._ask("ServerMetadata", service_pb2.ServerMetadataRequest())

    def model(self) -> dict[str, Any]:
        return self._ask("ModelMetadata", service_pb2.ModelMetadataRequest(**self._model))

    def config(self) -> dict[str, Any] | None:
        request = service_pb2.ModelConfigRequest(**self._model)
        answer = self._ask_extension("ModelConfig", request)
        return answer and answer.get("config")

    def statistics(self) -> dict[str, Any] | None:
        return self._ask_extension(
            "ModelStatistics", service_pb2.ModelStatisticsRequest(**self._model)
        )

    def _ask(self, method: str, request: Any) -> dict[str, Any]:
        try:
            return self._call(method, request)
        except grpc.RpcError as error:
            raise self._unanswered(method, error) from error

    def _ask_extension(self, method: str, request: Any) -> dict[str, Any] | None:
        try:
            return self._call(method, request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise self._unanswered(method, error) from error
            return None

    def _call(self, method: str, request: Any) -> dict[str, Any]:
        with _channel(self._target) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = getattr(stub, method)(request, timeout=_PATIENCE, metadata=self._metadata)
        return dict(
            MessageToDict(
                answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )

    def _unanswered(self, method: str, error: Any) -> Unanswered:
        told = f"{self._target.url} answers {method} with {error.code().name}: {error.details()}"
        if "CERTIFICATE_VERIFY_FAILED" in told:
            told += f"; {_trust('GRPC_DEFAULT_SSL_ROOTS_FILE_PATH')}"
        return Unanswered(told)


def _trust(variable: str) -> str:
    return f"name the file of the certificates that vouch for it by the variable {variable}"


def _channel(target: Target) -> Any:
    if target.tls:
        return grpc.secure_channel(target.address, grpc.ssl_channel_credentials())
    return grpc.insecure_channel(target.address)


def _error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
