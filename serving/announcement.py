"""What `penstock serve` tells whoever has started it: where to call, and with what."""

from collections.abc import Sequence
from math import prod
from typing import Final

from serving.gateway.server import Addresses
from serving.settings import Settings
from serving.types import ModelMetadata
from serving.wire import json_text

# An example request longer than this does not fit a terminal any more.
_MAX_EXAMPLE_ELEMENTS: Final = 1024


def announcement(models: Sequence[ModelMetadata], settings: Settings, addresses: Addresses) -> str:
    """Lines for the terminal: the models that are ready, the addresses, an example to paste."""
    names = ", ".join(f"{model.name} (version {model.version})" for model in models) or "none"
    lines = [f"Models   {names}"]
    if addresses.http:
        base = _rest_url(addresses.http, settings)
        lines.append(f"REST     {base}/v2        documentation {base}/docs")
    if addresses.grpc:
        lines.append(f"gRPC     {_reachable(addresses.grpc)}")
    if addresses.metrics:
        lines.append(f"Metrics  {_url(addresses.metrics)}/metrics")
    if addresses.http and models:
        example = _curl(models, _rest_url(addresses.http, settings), settings)
        lines.append(f"\nTry it:\n{example}\n")
    return "\n".join((*lines, "Ctrl-C stops."))


def _reachable(address: str) -> str:
    """An address that a client can call: a server that listens everywhere is found on localhost."""
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in ("0.0.0.0", "[::]", "::") else address


def _url(address: str) -> str:
    return f"http://{_reachable(address)}"


def _rest_url(address: str, settings: Settings) -> str:
    is_secure = settings.http_use_ssl or settings.http_use_ssl_mutual
    return f"{'https' if is_secure else 'http'}://{_reachable(address)}"


def _command(settings: Settings) -> str:
    """curl, with what the server asks of a caller as far as it can be told."""
    words = ["curl -s"]
    if settings.http_use_ssl_mutual:
        words.append("--cert CERTIFICATE --key KEY")
    if settings.api_keys_file:
        words.append("-H 'Authorization: Bearer API_KEY'")
    return " ".join(words)


def _curl(models: Sequence[ModelMetadata], base: str, settings: Settings) -> str:
    """A command that asks the model with the smallest input, as it can be pasted."""
    size, model = min(
        ((_elements(model), model) for model in models), key=lambda candidate: candidate[0]
    )
    if size > _MAX_EXAMPLE_ELEMENTS or any(spec.datatype.itemsize == 0 for spec in model.inputs):
        return f"{_command(settings)} {base}/v2/models/{model.name}"
    inputs = [
        {
            "name": spec.name,
            "shape": [max(dim, 1) for dim in spec.dims],
            "datatype": spec.datatype.wire,
            "data": [0] * prod(max(dim, 1) for dim in spec.dims),
        }
        for spec in model.inputs
    ]
    body = json_text.dumps({"inputs": inputs}).decode()
    return f"{_command(settings)} {base}/v2/models/{model.name}/infer -d '{body}'"


def _elements(model: ModelMetadata) -> int:
    return sum(prod(max(dim, 1) for dim in spec.dims) for spec in model.inputs)
