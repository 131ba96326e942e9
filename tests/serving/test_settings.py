"""Every setting has a flag, a variable and a default; each wins over those behind it."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from serving.command import serve
from serving.devices import Device, Wish
from serving.engine_settings import EngineKind
from serving.location import parse
from serving.restrictions import Group, Restriction
from serving.settings import (
    ENVIRONMENT_PREFIX,
    ModelControlMode,
    PassportPolicy,
    Settings,
    given,
    option,
    options,
    repositories,
)
from serving.threads import Processors
from serving.triton_settings import TritonSettings

NAMES = [setting.name for setting in fields(Settings)]

# What start scripts for tritonserver pass.
TRITONS = (
    "--model-repository",
    "--model-control-mode",
    "--load-model",
    "--repository-poll-secs",
    "--model-load-thread-count",
    "--http-address",
    "--http-port",
    "--grpc-address",
    "--grpc-port",
    "--metrics-address",
    "--metrics-port",
    "--allow-http",
    "--allow-grpc",
    "--allow-metrics",
    "--http-max-input-size",
    "--cache-config",
    "--response-cache-byte-size",
    "--exit-on-error",
    "--strict-readiness",
    "--exit-timeout-secs",
    "--log-error",
    "--log-file",
    "--log-format",
    "--log-info",
    "--log-verbose",
    "--log-warning",
    "--grpc-infer-response-compression-level",
    "--grpc-use-ssl",
    "--grpc-use-ssl-mutual",
    "--grpc-server-cert",
    "--grpc-server-key",
    "--grpc-root-cert",
    "--http-restricted-api",
    "--grpc-restricted-protocol",
    "--trace-config",
)


def read(
    arguments: Sequence[str] = (), environment: Mapping[str, str | None] | None = None
) -> Settings:
    """The settings that a command gets."""
    seen: list[Settings] = []

    @click.command()
    @repositories
    @options
    def command(**values: Any) -> None:
        seen.append(given(values))

    own = {name: None for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)}
    result = CliRunner().invoke(command, arguments, env={**own, **(environment or {})})
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets of how many processors the machine is; at first of two."""

    def size(count: int) -> None:
        found = Processors(count, None)
        monkeypatch.setattr("serving.engine_settings.processors", lambda: found)

    size(2)
    return size


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def another(default: Any) -> Any:
    """A value of the default's type that is not the default."""
    match default:
        case bool():
            return not default
        case int():
            return default + 1
        case float():
            return default + 1.5
        case str():
            return "::1"
        case Path():
            return default / "other"
        case Wish():
            return Wish(Device.CPU)
        case Enum():
            return next(member for member in type(default) if member is not default)
    raise AssertionError(f"no other value known for {default!r}")


def text_of(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


# What belongs to servers elsewhere, or to shared memory, cannot be said without them.
ELSEWHERE = {
    *("engine", "gateway_batching", "map_client_shm"),
    *(setting.name for setting in fields(TritonSettings)),
}
SINGLE = {
    setting.name: setting.default
    for setting in fields(Settings)
    if not isinstance(setting.default, tuple) and setting.name not in ELSEWHERE
}


def test_without_flags_and_variables_the_defaults_hold() -> None:
    assert read() == Settings()


@pytest.mark.parametrize("name", SINGLE)
def test_each_setting_has_a_flag(name: str) -> None:
    value = another(SINGLE[name])
    assert read([f"{flag_of(name)}={text_of(value)}"]) == Settings(**{name: value})


@pytest.mark.parametrize("name", SINGLE)
def test_each_setting_has_a_variable_which_the_flag_beats(name: str) -> None:
    value, default = another(SINGLE[name]), SINGLE[name]
    variable = {ENVIRONMENT_PREFIX + name.upper(): text_of(value)}
    assert read((), variable) == Settings(**{name: value})
    assert read([f"{flag_of(name)}={text_of(default)}"], variable) == Settings()


@pytest.mark.parametrize(
    ("processors", "workers"), [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (6, 3), (8, 4), (96, 4)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process does everything")
def test_as_many_processes_parse_requests_as_the_processors_are_enough_for(
    machine: Callable[[int], None], processors: int, workers: int
) -> None:
    machine(processors)
    for said in ([], ["--workers=auto"]):
        assert read(said).workers == workers
    assert read(environment={"PENSTOCK_WORKERS": "auto"}).workers == workers
    assert read(["--workers=1"]).workers == 1


def test_several_repositories_come_as_several_flags_or_as_a_path_list() -> None:
    several = Settings(model_repository=(Path("a"), Path("b c")))
    assert read(["--model-repository=a", "--model-repository", "b c"]) == several
    listed = os.pathsep.join(("a", "b c"))
    assert read((), {"PENSTOCK_MODEL_REPOSITORY": listed}) == several
    for said in (["--model-repository=d"], ["d"]):
        alone = read(said, {"PENSTOCK_MODEL_REPOSITORY": listed})
        assert alone == Settings(model_repository=(Path("d"),))


def test_repositories_come_without_the_flag_as_well_but_not_in_both_ways() -> None:
    assert read(["a", "--http-port=80", "b c"]) == Settings(
        model_repository=(Path("a"), Path("b c")), http_port=80
    )
    result = CliRunner().invoke(serve, ["a", "--model-repository=model_repository"])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "a and --model-repository both name repositories: name all of them in one way." in said


def test_repositories_may_be_urls_among_paths() -> None:
    urls = "s3://localhost:9000/b/p", "gs://b", "as://account/container/p"
    several = Settings(model_repository=(Path("/a"), *map(parse, urls), Path("/b")))
    listed = ["/a", *urls, "/b"]
    assert read([f"--model-repository={one}" for one in listed]) == several
    assert read((), {"PENSTOCK_MODEL_REPOSITORY": os.pathsep.join(listed)}) == several


def test_the_models_of_explicit_mode_are_named_by_several_flags() -> None:
    mode = "--model-control-mode=EXPLICIT"
    expected = Settings(model_control_mode=ModelControlMode.EXPLICIT, load_model=("a", "b"))
    assert read([mode, "--load-model=a", "--load-model", "b"]) == expected
    assert read([mode], {"PENSTOCK_LOAD_MODEL": "a b"}) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--load-model=a"],
            "Use of '--load-model' requires setting '--model-control-mode=explicit' as well.",
        ),
        (
            ["--load-model=*", "--load-model=a", "--model-control-mode=explicit"],
            "Wildcard model name '*' must be the ONLY startup model if specified at all.",
        ),
    ],
)
def test_models_at_start_are_named_as_triton_wants_it(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(serve, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((), 0),
        (("--cache-config=local,size=1048576",), 1048576),
        (("--cache-config", "local,size=5", "--cache-config=local,size=7"), 7),
        (("--response-cache-byte-size=9",), 9),
    ],
)
def test_the_size_of_the_response_cache_is_said_as_to_triton(
    arguments: Sequence[str], size: int
) -> None:
    assert read(arguments).cache_size == size


def test_the_size_of_the_response_cache_is_said_in_one_way() -> None:
    both = ["--cache-config=local,size=5", "--response-cache-byte-size=9"]
    result = CliRunner().invoke(serve, both)
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "Incompatible flags --cache-config and --response-cache-byte-size both" in said


def test_restrictions_are_said_as_to_triton() -> None:
    health, two = "health:key=a=b:c", "metadata,shared-memory:Other=x"
    expected = (
        Restriction((Group.HEALTH,), "key", "a=b:c"),
        Restriction((Group.METADATA, Group.SHARED_MEMORY), "Other", "x"),
    )
    flags = [f"--http-restricted-api={one}" for one in (health, two)]
    assert read(flags) == Settings(http_restricted_api=expected)
    variable = {"PENSTOCK_GRPC_RESTRICTED_PROTOCOL": f"{health} {two}"}
    assert read((), variable) == Settings(grpc_restricted_protocol=expected)


@pytest.mark.parametrize(
    ("flags", "noun"),
    [
        (("--http-restricted-api=health,health:a=b",), "api"),
        (("--http-restricted-api=health:a=b", "--http-restricted-api=trace,health:a=b"), "api"),
        (("--grpc-restricted-protocol=health,health:a=b",), "protocol"),
    ],
)
def test_a_group_is_restricted_once(flags: Sequence[str], noun: str) -> None:
    result = CliRunner().invoke(serve, list(flags))
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert f"restricted {noun} 'health' can not be specified in multiple config groups" in said


def test_the_value_of_a_restriction_is_never_shown() -> None:
    [restriction] = read(["--http-restricted-api=health:key=sesame"]).http_restricted_api
    assert "sesame" not in repr(restriction)
    refused = CliRunner().invoke(serve, ["--http-restricted-api=other:key=sesame"])
    assert refused.exit_code == 2
    assert "sesame" not in refused.output


def test_triton_servers_are_named_by_lists_by_several_flags_or_by_a_variable() -> None:
    lists = "a:8001,[::1]:7001", "b.c:9", "a:8001"
    flags = [f"--triton-url={one}" for one in lists]
    expected = Settings(engine=EngineKind.TRITON, triton_url=lists)
    assert read(["--engine=TRITON", *flags]) == expected
    variables = {"PENSTOCK_ENGINE": "triton", "PENSTOCK_TRITON_URL": " ".join(lists)}
    assert read((), variables) == expected
    assert expected.triton_servers == ("a:8001", "[::1]:7001", "b.c:9")


@pytest.mark.parametrize("name", ["a", "a:0", "a:65536", "http://a:1", "a..b:1", f"{'a' * 64}:1"])
def test_what_names_no_triton_server_is_refused(name: str) -> None:
    result = CliRunner().invoke(serve, ["--engine=triton", f"--triton-url=b:1,{name}"])
    assert result.exit_code == 2
    assert f"'{name}' is not HOST:PORT, the gRPC port of" in " ".join(result.output.split())


def test_how_to_connect_to_triton_servers_is_said_by_flags_or_by_variables() -> None:
    others: dict[str, Any] = {
        "root_cert": "ca.crt",
        "client_cert": "tls.crt",
        "client_key": "tls.key",
    }
    given = {"use_ssl": "true", **others}
    fleet = ["--engine=triton", "--triton-url=a:1"]
    expected = Settings(
        engine=EngineKind.TRITON,
        triton_url=("a:1",),
        triton_use_ssl=True,
        **{f"triton_{name}": value for name, value in others.items()},
    )
    flags = [f"--triton-{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert read([*fleet, *flags]) == expected
    variables = {f"PENSTOCK_TRITON_{name.upper()}": value for name, value in given.items()}
    assert read(fleet, variables) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine=triton"], "--engine=triton and --triton-url need each other."),
        (["--triton-url=a:1"], "--engine=triton and --triton-url need each other."),
        (["--gateway-batching"], "--gateway-batching is for --engine=triton; this process batches"),
        (
            ["--engine=triton", "--triton-url=a:1", "--load-model=m"],
            "--load-model says nothing with --engine=triton: say it to the Triton servers.",
        ),
        (
            ["--engine=triton", "--triton-url=a:1", "--model-control-mode=explicit"],
            "--model-control-mode says nothing with --engine=triton",
        ),
        (
            ["--engine=triton", "--triton-url=a:8001,localhost:8001"],
            "port 8001 of this machine is the one that this server listens on itself",
        ),
        (["--triton-use-ssl=true"], "--triton-use-ssl is for --engine=triton."),
        (
            ["--engine=triton", "--triton-url=a:1", "--triton-root-cert=ca.crt"],
            "--triton-root-cert is given, but connections to the Triton servers would be plain",
        ),
        (
            [
                *("--engine=triton", "--triton-url=a:1", "--triton-use-ssl=true"),
                "--triton-client-cert=tls.crt",
            ],
            "--triton-client-cert and --triton-client-key need each other.",
        ),
    ],
)
def test_what_says_nothing_to_an_engine_is_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(serve, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("word", ["REQUIRE", "require", "Require"])
def test_words_may_be_written_in_any_case(word: str) -> None:
    assert read([f"--passport-policy={word}"]).passport_policy is PassportPolicy.REQUIRE


@pytest.mark.parametrize(("word", "level"), [("true", 1), ("FALSE", 0), ("2", 2)])
def test_the_verbosity_may_be_a_truth_as_for_tritonserver(word: str, level: int) -> None:
    assert read([f"--log-verbose={word}"]).log_verbose == level


BAD = {
    "engine": ("tritonserver",),
    "triton_url": (
        "a",
        "a:",
        ":8001",
        "a:0",
        "a:65536",
        "a:8001,",
        "a:8001,,b:8001",
        "http://a:8001",
        "::1:8001",
        "a b:8001",
    ),
    "http_port": ("65536", "-1", "many", "80.5"),
    "allow_grpc": ("perhaps",),
    "http_max_input_size": ("0", "-5", str(2**31), "64M"),
    "max_queue_size": ("0",),
    "cache_config": (
        "redis,size=5",
        "local",
        "local,size=0",
        "local,size=-5",
        "local,size=1MB",
        "local,size=",
        "local, size=5",
        "size=5",
        "local,entries=5",
    ),
    "response_cache_byte_size": ("-1", "1MB"),
    "http_restricted_api": (
        "health",
        "health:key",
        "health:key=",
        "health:=value",
        ":key=value",
        "other:key=value",
        "health,:key=value",
        "health,-metadata:key=value",
        "Health:key=value",
    ),
    "grpc_restricted_protocol": ("other:key=value",),
    "max_connections": ("0", "many"),
    "busy_poll_micros": ("-1", "1000001", "1ms"),
    "max_inflight_bytes": ("-1", "1G"),
    "connection_idle_secs": ("0", "-1", "nan", "inf"),
    "exit_timeout_secs": ("-1", "soon"),
    "exit_grace_secs": ("-0.1", "a while", "nan"),
    "metrics_interval_ms": ("0", "nan"),
    "load_objective_ms": ("0", "inf"),
    "passport_policy": ("trust",),
    "log_format": ("xml",),
    "log_verbose": ("-1", "very"),
}


@pytest.mark.parametrize(("name", "value"), [(n, value) for n, bad in BAD.items() for value in bad])
def test_a_bad_value_is_refused_by_the_name_of_what_held_it(name: str, value: str) -> None:
    by_flag = CliRunner().invoke(serve, [f"{flag_of(name)}={value}"])
    assert by_flag.exit_code == 2
    assert f"Invalid value for '{flag_of(name)}'" in by_flag.output
    variable = ENVIRONMENT_PREFIX + name.upper()
    by_variable = CliRunner().invoke(serve, [], env={variable: value})
    assert by_variable.exit_code == 2
    assert f"env var: '{variable}'" in " ".join(by_variable.output.split())


def test_memory_is_mapped_only_where_it_may_be_shared() -> None:
    result = CliRunner().invoke(serve, ["--map-client-shm"])
    assert result.exit_code == 2
    assert "--map-client-shm is for --allow-client-shm=true." in " ".join(result.output.split())


def test_a_server_that_nobody_could_call_is_refused() -> None:
    ports = [f"--allow-{port}=false" for port in ("http", "grpc", "metrics")]
    result = CliRunner().invoke(serve, ports)
    assert result.exit_code == 2
    assert "leave out at least one of the first two" in " ".join(result.output.split())


def test_an_unknown_flag_is_refused() -> None:
    result = CliRunner().invoke(serve, ["--http-prot=80"])
    assert result.exit_code == 2
    assert "--http-prot" in result.output


def test_the_help_tells_of_every_flag_variable_and_default() -> None:
    result = CliRunner().invoke(serve, ["--help"], terminal_width=200)
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    for setting in fields(Settings):
        assert f"{flag_of(setting.name)} " in said.replace(",", " ")
        assert f"env var: {ENVIRONMENT_PREFIX}{setting.name.upper()}" in said
        assert setting.metadata["help"] in said
    assert said.count("default: ") >= len(SINGLE)


def test_flags_that_tritonserver_has_bear_its_names() -> None:
    assert set(TRITONS) <= {flag_of(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_help_shows_a_default_that_can_be_typed(name: str) -> None:
    command = click.Command("serve")
    option(name)(command)
    shown = command.params[0].get_default(click.Context(command))
    choices = command.params[0].type
    if isinstance(choices, click.Choice):
        assert shown in {choice.name.lower() for choice in choices.choices}
    else:
        assert not isinstance(shown, bool)
