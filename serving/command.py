"""`penstock serve`: puts settings, engine and gateway together."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import click

from serving import engines, event_loop, headings, tritonserver
from serving.announcement import announcement, tell
from serving.engine_settings import EngineKind, Fitting
from serving.errors import ServingError
from serving.gateway.extensions import Extensions
from serving.gateway.server import Addresses
from serving.gateway.server import serve as run_server
from serving.logs import Logs
from serving.settings import LogFormat, Settings, given, options, repositories
from serving.supervision import server as several
from serving.threads import leave
from serving.types import ModelMetadata

logger = logging.getLogger("penstock.server")


@click.command(
    cls=headings.Headed,
    headings=headings.SETTINGS,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@repositories
@options
@tritonserver.flags
def serve(**values: Any) -> None:
    """Serve every model of the repositories over REST, gRPC and a metrics port.

    A model repository is a folder of models, NAME/VERSION/model.onnx, with an optional
    NAME/config.pbtxt: what a Triton server takes. REPOSITORY is short for
    --model-repository=REPOSITORY. The flags bear tritonserver's names where it has
    them; each can be set by its environment variable instead.

    Ctrl-C or SIGTERM stops: the server is no longer ready, answers what it has accepted, and ends
    with exit code 0.
    """
    settings = given(values)
    code = 0
    try:
        logs = Logs(settings)
        logs.install()
        if isinstance(settings.workers, Fitting) and _suits_one_process(settings):
            settings = replace(settings, workers=0)
        if settings.workers:
            logger.info("workers: %d, beside what executes the models", settings.workers)
            several.serve(settings, logs, partial(tell, settings=settings))
        else:
            event_loop.run(_serve(settings, logs))
    except ServingError as error:
        code = 1
        if settings.log_format is LogFormat.JSON:
            logger.error("%s", error.message)
        else:
            click.ClickException(error.message).show()
    leave(code)


def _suits_one_process(settings: Settings) -> bool:
    """Whether several could not do what is asked, or nothing is known of what they would bring."""
    is_elsewhere = settings.engine is not EngineKind.EMBEDDED
    return is_elsewhere or engines.may_have_gpus(settings) or bool(several.hindrance(settings))


async def _serve(settings: Settings, logs: Logs) -> None:
    """One process does all."""
    engine = engines.open_engine(settings)
    models: Sequence[ModelMetadata] = ()

    async def load() -> None:
        nonlocal models
        models = await engines.start(engine)

    def announce(addresses: Addresses) -> None:
        tell(announcement(models, settings, addresses), settings)

    extensions = Extensions.of(settings, logs)
    await run_server(engine, settings, extensions, load, announce)
