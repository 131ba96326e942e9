"""What `penstock serve` tells whoever has started it: where to call, and with what."""

import logging
import shlex
import sys
import textwrap
from collections.abc import Sequence
from math import prod
from typing import Final
from urllib.parse import quote

import click

from serving import standard_output
from serving.gateway.server import Addresses
from serving.settings import LogFormat, Settings
from serving.types import ModelMetadata
from serving.wire import json_text

logger = logging.getLogger("penstock.server")

# An example request longer than this is a wall of zeros.
_MAX_EXAMPLE_ELEMENTS: Final = 128
_WIDTH: Final = 100
_TIED: Final = "\N{NO-BREAK SPACE}"


def announcement(models: Sequence[ModelMetadata], settings: Settings, addresses: Addresses) -> str:
    """Lines for the terminal: the models that are ready, the addresses, an example to paste.

    Where the log is for machines, the models alone, in one.
    """
    if settings.log_format is LogFormat.JSON:
        return f"ready: {', '.join(_named(models)) or 'no models'}"
    lines = _listed(models)
    if addresses.http:
        base = _rest_url(addresses.http, settings)
        lines.append(f"REST     {base}/v2        to try in a browser: {base}")
    if addresses.grpc:
        lines.append(f"gRPC     {_reachable(addresses.grpc)}")
    if addresses.metrics:
        lines.append(f"Metrics  {_url(addresses.metrics)}/metrics")
    if addresses.http and models:
        example = _curl(models, _rest_url(addresses.http, settings), settings)
        lines.append(f"\nTry it:\n{example}\n")
    return "\n".join((*lines, "Ctrl-C stops."))


def tell(text: str, settings: Settings) -> None:
    """Print an announcement; as a line of the log where that is for machines.

    What collects a container's log takes standard output along, and would stumble over text. Where
    nobody reads it, or its disk is full, the server goes on.
    """
    if settings.log_format is LogFormat.JSON:
        logger.info("%s", text)
        return
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        logger.warning("standard output cannot be written: %s", error.strerror)
        standard_output.give_up()


def _named(models: Sequence[ModelMetadata]) -> list[str]:
    return [f"{model.name} (version {model.version})" for model in models]


def _listed(models: Sequence[ModelMetadata]) -> list[str]:
    """The models side by side, as many on a line as fit."""
    # Held together by a space at which no line is broken.
    names = [name.replace(" ", _TIED) for name in _named(models)]
    lines = textwrap.wrap(
        ", ".join(names) or "none",
        _WIDTH,
        initial_indent="Models   ",
        subsequent_indent=" " * len("Models   "),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_TIED, " ") for line in lines]


def _reachable(address: str) -> str:
    """An address that a client can call: a server that listens everywhere is found on localhost."""
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in ("0.0.0.0", "[::]") else address


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
    """A command that asks the model with the smallest input of fixed size, as it can be pasted."""
    model = min(models, key=lambda model: (_varies(model), _elements(model)))
    url = f"{base}/v2/models/{quote(model.name, safe='')}"
    is_long = _elements(model) > _MAX_EXAMPLE_ELEMENTS
    if is_long or any(spec.datatype.itemsize == 0 for spec in model.inputs):
        return f"{_command(settings)} {url}"
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
    return f"{_command(settings)} {url}/infer -d {shlex.quote(body)}"


def _varies(model: ModelMetadata) -> bool:
    """Whether zeros of any size say little: of texts' tokens, of series, of texts themselves."""
    return any(
        spec.datatype.itemsize == 0 or any(dim < 0 for dim in spec.dims[1:])
        for spec in model.inputs
    )


def _elements(model: ModelMetadata) -> int:
    return sum(prod(max(dim, 1) for dim in spec.dims) for spec in model.inputs)
