"""`penstock doctor`: is this machine fit to serve with these settings?"""

import json
import logging
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

import click

from serving import headings, tritonserver
from serving.doctor.findings import Check, Finding, Verdict, worst
from serving.doctor.machine import clock, files, threads
from serving.doctor.memory import memory, shared_memory
from serving.doctor.ports import ports
from serving.doctor.repository import repository
from serving.doctor.runtime import interpreter, packages, runtime
from serving.doctor.security import security
from serving.doctor.servers import servers
from serving.settings import Settings, given, option, repositories

SCHEMA: Final = "penstock.doctor/1"

CHECKS: Final[tuple[Check, ...]] = (
    *(packages, interpreter, runtime, threads, memory, shared_memory, files, clock, ports),
    *(security, servers, repository),
)
# The settings of `penstock serve` that the checks look at; the others are taken as well.
_SETTINGS: Final = (
    *("model_repository", "model_repository_cache", "passport_policy"),
    *("http_address", "http_port", "grpc_address", "grpc_port", "metrics_address", "metrics_port"),
    *("allow_http", "allow_grpc", "allow_metrics", "allow_client_shm"),
    *("max_connections", "max_inflight_bytes"),
    *("http_use_ssl", "http_server_cert", "http_server_key", "http_root_cert"),
    *("grpc_use_ssl", "grpc_server_cert", "grpc_server_key", "grpc_root_cert", "api_keys_file"),
    *("device", "engine", "triton_url", "triton_use_ssl", "triton_root_cert"),
    *("triton_client_cert", "triton_client_key"),
)
_COLOURS: Final = {Verdict.GOOD: "green", Verdict.WARNING: "yellow", Verdict.FAULT: "red"}
_VERDICT: Final = max(len(verdict.value) for verdict in Verdict)
_CHECK: Final = len("port of metrics")
_WIDTH: Final = 100

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _settings(command: _Command) -> _Command:
    for setting in fields(Settings):
        command = option(setting.name, hidden=setting.name not in _SETTINGS)(command)
    return command


@click.command(
    cls=headings.Headed,
    headings=headings.SETTINGS,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for machines.")
@click.option("--strict", is_flag=True, help="Let warnings fail as well.  [default: no]")
@repositories
@_settings
@tritonserver.flags
def doctor(as_json: bool, strict: bool, **values: Any) -> None:
    """Check this machine, and say what to change before `penstock serve` runs here.

    Versions, ONNX Runtime and its providers, GPU and driver, processors and memory as the container
    has them, file descriptors, the clock, ports, certificates and keys, and the models, or the
    Triton servers that have them. Give it the flags, or the environment, of the server.

    The exit code is 0 if a server can run, 1 if something is at fault (with --strict also for a
    warning), and 2 for wrong usage.
    """
    settings = given(values)
    # What the server's parts would log is in the findings.
    logging.getLogger("penstock").addHandler(logging.NullHandler())
    findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        click.echo(to_json(findings))
    else:
        for line in lines(findings):
            click.echo(line)
    failing = (Verdict.WARNING, Verdict.FAULT) if strict else (Verdict.FAULT,)
    sys.exit(1 if worst(findings) in failing else 0)


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for each finding, and below it what to change."""
    margin = " " * (_VERDICT + _CHECK + 4)
    for finding in findings:
        label = click.style(f"{finding.verdict.value:<{_VERDICT}}", fg=_COLOURS[finding.verdict])
        head, *rest = _wrapped(finding.found, _WIDTH - len(margin))
        yield f"{label}  {finding.check:<{_CHECK}}  {head}"
        yield from (margin + line for line in rest)
        yield from (margin + line for line in _wrapped(finding.advice, _WIDTH - len(margin)))
    counts = {each: sum(one.verdict is each for one in findings) for each in Verdict}
    yield ", ".join(_counted(count, verdict) for verdict, count in counts.items() if count)


def _counted(count: int, verdict: Verdict) -> str:
    is_plural = count > 1 and verdict is not Verdict.GOOD
    return f"{count} {verdict.value}{'s' if is_plural else ''}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def to_json(findings: Sequence[Finding]) -> str:
    """The findings as one document of the schema `penstock.doctor/1`."""
    document = {
        "schema": SCHEMA,
        "verdict": worst(findings).value,
        "findings": [
            {
                "check": finding.check,
                "verdict": finding.verdict.value,
                "found": finding.found,
                "advice": finding.advice or None,
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
