"""A start script for tritonserver starts this server, or is told by name what cannot be had."""

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from serving import tritonserver
from serving.command import serve
from tests.triton.server import installation

COMPATIBILITY: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
_FLAG: Final = re.compile(r"^  --([\w-]+)", re.MULTILINE)

# What tritonserver 2.51 says that it takes, for where there is none to ask.
KNOWN: Final = frozenset(
    {
        "help",
        "id",
        "exit-timeout-secs",
        "log-verbose",
        "log-info",
        "log-warning",
        "log-error",
        "log-format",
        "log-file",
        "model-store",
        "model-repository",
        "exit-on-error",
        "disable-auto-complete-config",
        "strict-readiness",
        "model-control-mode",
        "repository-poll-secs",
        "load-model",
        "model-config-name",
        "model-load-thread-count",
        "model-load-retry-count",
        "model-namespacing",
        "enable-peer-access",
        "allow-http",
        "http-address",
        "http-port",
        "reuse-http-port",
        "http-header-forward-pattern",
        "http-thread-count",
        "http-restricted-api",
        "allow-grpc",
        "grpc-address",
        "grpc-port",
        "reuse-grpc-port",
        "grpc-header-forward-pattern",
        "grpc-infer-allocation-pool-size",
        "grpc-use-ssl",
        "grpc-use-ssl-mutual",
        "grpc-server-cert",
        "grpc-server-key",
        "grpc-root-cert",
        "grpc-infer-response-compression-level",
        "grpc-keepalive-time",
        "grpc-keepalive-timeout",
        "grpc-keepalive-permit-without-calls",
        "grpc-http2-max-pings-without-data",
        "grpc-http2-min-recv-ping-interval-without-data",
        "grpc-http2-max-ping-strikes",
        "grpc-max-connection-age",
        "grpc-max-connection-age-grace",
        "grpc-restricted-protocol",
        "allow-sagemaker",
        "sagemaker-port",
        "sagemaker-safe-port-range",
        "sagemaker-thread-count",
        "allow-vertex-ai",
        "vertex-ai-port",
        "vertex-ai-thread-count",
        "vertex-ai-default-model",
        "allow-metrics",
        "allow-gpu-metrics",
        "allow-cpu-metrics",
        "metrics-address",
        "metrics-port",
        "metrics-interval-ms",
        "metrics-config",
        "trace-config",
        "backend-directory",
        "backend-config",
        "repoagent-directory",
        "cache-config",
        "cache-directory",
        "rate-limit",
        "rate-limit-resource",
        "pinned-memory-pool-byte-size",
        "cuda-memory-pool-byte-size",
        "cuda-virtual-address-size",
        "min-supported-compute-capability",
        "buffer-manager-thread-count",
        "host-policy",
        "model-load-gpu-limit",
        "strict-model-config",
        "response-cache-byte-size",
        "trace-file",
        "trace-level",
        "trace-rate",
        "trace-count",
        "trace-log-frequency",
    }
)


def ours() -> set[str]:
    """Every flag of `penstock serve`, hidden or not."""
    options = [option for option in serve.params if isinstance(option, click.Option)]
    return {name.removeprefix("--") for option in options for name in option.opts} | {"help"}


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(serve, [*arguments, "--help"])
    return result.exit_code, " ".join(result.output.split())


def test_no_flag_of_a_real_tritonserver_is_unknown() -> None:
    found = installation()
    help = subprocess.run(
        [found.server, "--help"],
        env=found.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,  # it says so with 1
    )
    flags = set(_FLAG.findall(help.stdout + help.stderr))
    assert flags == KNOWN
    assert flags <= ours()


@pytest.mark.parametrize("flag", sorted(KNOWN))
def test_each_of_them_is_known_here(flag: str) -> None:
    assert flag in ours()


def test_a_flag_has_one_fate() -> None:
    accepted, refused = set(tritonserver.ACCEPTED), set(tritonserver.REFUSED)
    assert not accepted & refused
    # What is in neither table is a setting, which the help tells of.
    listed = {
        name.removeprefix("--")
        for option in serve.params
        if isinstance(option, click.Option) and not option.hidden
        for name in option.opts
    }
    assert not listed & (accepted | refused)
    assert accepted | refused <= KNOWN


@pytest.mark.parametrize("flag", sorted(tritonserver.ACCEPTED))
def test_what_is_so_anyway_is_taken_and_not_in_the_help(flag: str) -> None:
    code, text = said(f"--{flag}=1", f"--{flag}=2")
    assert code == 0
    assert f"--{flag} " not in text


@pytest.mark.parametrize("flag", sorted(tritonserver.REFUSED))
def test_what_cannot_be_had_is_refused_by_name_with_the_cure(flag: str) -> None:
    refusal = tritonserver.REFUSED[flag]
    result = CliRunner().invoke(serve, [f"--{flag}=something"])
    text = " ".join(result.output.split())
    assert result.exit_code == 2
    assert f"--{flag}=something: {refusal.reason}; {refusal.cure}." in text


@pytest.mark.parametrize(
    ("flag", "value"),
    [(flag, value) for flag, one in sorted(tritonserver.REFUSED.items()) for value in one.fine],
)
def test_asking_for_nothing_is_no_reason_to_refuse(flag: str, value: str) -> None:
    assert said(f"--{flag}={value.upper()}")[0] == 0


def test_the_document_has_the_table() -> None:
    assert tritonserver.as_table() in COMPATIBILITY.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--metrics-config=latencies=true", "expected counter_latencies, summary_latencies"),
        ("--metrics-config=summary_latencies=yes", "expected true or false"),
        ("--metrics-config=summary_quantiles=0.5", "'0.5' is not <quantile>:<error>"),
        ("--metrics-config=summary_quantiles=1.5:0.1", "a quantile is between 0 and 1"),
        ("--backend-config=default-max-batch-size=many", "expected a whole number"),
        ("--backend-config=default-max-batch-size=2147483648", "up to 2147483647"),
        ("--backend-config=onnxruntime,threads=2", "say it in their config.pbtxt"),
        ("--backend-config=nonsense", "expected [BACKEND,]SETTING=VALUE"),
        ("--backend-config=,x=1", "expected [BACKEND,]SETTING=VALUE"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_at_start(flag: str, message: str) -> None:
    result = CliRunner().invoke(serve, [flag])
    assert result.exit_code == 2
    text = " ".join(result.output.split())
    assert f"{flag}: " in text
    assert message in text


def test_a_long_start_script_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stop(settings: Any) -> None:
        seen.append(settings)
        raise click.ClickException("as far as the test goes")

    monkeypatch.setattr("serving.command.Logs", stop)
    script = (
        "--model-store=/models --http-thread-count 8 --pinned-memory-pool-byte-size=268435456 "
        "--cuda-memory-pool-byte-size=0:67108864 --cuda-memory-pool-byte-size=1:67108864 "
        "--rate-limit=off --allow-sagemaker=false --strict-model-config=true --id=here "
        "--backend-config=python,shm-region-prefix-name=a --backend-config=tensorrt,x=y "
        "--backend-config=default-max-batch-size=16 --trace-file=t.json --trace-level=TIMESTAMPS "
        "--trace-rate=10 --disable-auto-complete-config --min-supported-compute-capability=7.5"
    )
    result = CliRunner().invoke(serve, script.split())
    [settings] = seen
    assert result.exit_code == 1
    assert settings.model_repository == (Path("/models"),)
    assert not settings.auto_complete
    assert settings.default_max_batch_size == 16
    assert settings.deprecated_trace_config == (
        "triton,file=t.json",
        "rate=10",
        "level=TIMESTAMPS",
    )
