"""Whether the Triton servers of the settings can be asked."""

import asyncio
from collections.abc import Iterator, Sequence

from serving.doctor.findings import Finding, fault, good, warning
from serving.engine_settings import EngineKind
from serving.errors import ServingError
from serving.settings import Settings
from serving.triton.dialling import Dialling
from serving.triton.fleet import Fleet
from serving.triton.link import Link, State

_CHECK = "triton server"


def servers(settings: Settings) -> Iterator[Finding]:
    """A finding for each; none at all where this process executes the models."""
    if settings.engine is not EngineKind.TRITON:
        return
    try:
        links, unknown = asyncio.run(_asked(settings))
    except ServingError as error:
        yield fault(_CHECK, error.message, "the server does not start; see docs/triton.md")
        return
    if unknown:
        tell = warning if links else fault
        names = ", ".join(unknown)
        yield tell(_CHECK, f"{names}: no such host", "--triton-url must name hosts that are known")
    nobody = all(link.state is State.UNREACHABLE for link in links)
    for link in links:
        yield _finding(link, nobody)


async def _asked(settings: Settings) -> tuple[Sequence[Link], Sequence[str]]:
    """The servers, and the names that stand for none."""
    fleet = Fleet(settings.triton_servers, Dialling(settings), lambda: None)
    await fleet.open()
    links = sorted(fleet.links, key=lambda link: link.address)
    await fleet.close(0)
    return links, fleet.unknown


def _finding(link: Link, nobody: bool) -> Finding:
    if link.state is State.READY:
        return good(_CHECK, f"{link.address} is ready")
    if link.state is State.NOT_READY:
        advice = "one of its models has failed: its log, or its /v2/repository/index, says which"
        return warning(_CHECK, f"{link.address} is not ready", advice)
    found = f"{link.address} is unreachable: {link.why}"
    if nobody:
        return fault(_CHECK, found, "until one is there, every request is answered by 503")
    return warning(_CHECK, found, "the others do its work until it is there")
