"""`penstock serve`: puts settings, engine and gateway together."""

import asyncio
import sys
from contextlib import suppress
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Final

import click

from serving import tritonserver
from serving.engine_settings import EngineKind
from serving.errors import ServingError
from serving.gateway.extensions import Extensions
from serving.gateway.server import Addresses
from serving.gateway.server import serve as run_server
from serving.logs import Logs
from serving.settings import Settings, options
from serving.types import ModelMetadata
from serving.wire import json_text

if TYPE_CHECKING:
    from serving.engine.embedded import EmbeddedEngine
    from serving.triton.engine import TritonEngine

# An example request longer than this does not fit a terminal any more.
_MAX_EXAMPLE_ELEMENTS: Final = 1024


@click.command(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@options
@tritonserver.flags
def serve(**values: Any) -> None:
    """Serve every model of the repositories over REST, gRPC and a metrics port.

    A model repository is a folder of models, NAME/VERSION/model.onnx, with an optional
    NAME/config.pbtxt: what a Triton server takes. The flags bear tritonserver's names where it has
    them; each can be set by its environment variable instead.

    Ctrl-C or SIGTERM stops: the server is no longer ready, answers what it has accepted, and ends
    with exit code 0.
    """
    settings = Settings(**values)
    try:
        logs = Logs(settings)
        logs.install()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, logs))
    except ServingError as error:
        raise click.ClickException(error.message) from error


def _loop_factory() -> Any:
    """uvloop's event loop where it exists; it answers about twice as many requests."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(settings: Settings, logs: Logs) -> None:
    engine = _engine(settings)
    announced: list[ModelMetadata] = []

    async def load() -> None:
        await engine.start()
        # What is somewhere else may not be there yet.
        with suppress(ServingError):
            ready = await engine.index(ready_only=True)
            asked = (engine.model_metadata(entry.name, entry.version) for entry in ready)
            announced[:] = await asyncio.gather(*asked)

    extensions = Extensions.of(settings, logs)
    await run_server(engine, settings, extensions, load, partial(_announce, announced, settings))


def _engine(settings: Settings) -> "EmbeddedEngine | TritonEngine":
    # Imported here: whoever only asks for --help need not have a runtime installed, and whoever
    # has Triton execute the models none at all.
    if settings.engine is EngineKind.TRITON:
        from serving.triton.engine import TritonEngine

        return TritonEngine(settings)
    from serving.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(settings)


def _announce(models: list[ModelMetadata], settings: Settings, addresses: Addresses) -> None:
    names = ", ".join(f"{model.name} (version {model.version})" for model in models) or "none"
    click.echo(f"Models   {names}")
    if addresses.http:
        base = _rest_url(addresses.http, settings)
        click.echo(f"REST     {base}/v2        documentation {base}/docs")
    if addresses.grpc:
        click.echo(f"gRPC     {_reachable(addresses.grpc)}")
    if addresses.metrics:
        click.echo(f"Metrics  {_url(addresses.metrics)}/metrics")
    if addresses.http and models:
        click.echo(f"\nTry it:\n{_curl(models, _rest_url(addresses.http, settings), settings)}\n")
    click.echo("Ctrl-C stops.")
    sys.stdout.flush()


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


def _curl(models: list[ModelMetadata], base: str, settings: Settings) -> str:
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
