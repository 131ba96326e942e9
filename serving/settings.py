"""Everything a server can be told, read in one place: flags, else environment, else defaults.

A field of `Settings` becomes the flag `--its-name` and the variable `PENSTOCK_ITS_NAME`. Flags
that tritonserver has as well bear its names and meanings.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from serving.channel_settings import ChannelSettings
from serving.deprecated_settings import DeprecatedSettings
from serving.engine_settings import EngineKind, EngineSettings
from serving.flags import FiniteRange, Level
from serving.flags import flag as _flag
from serving.loading_settings import LoadingSettings
from serving.location import Location, LocationType
from serving.metrics_settings import MetricsSettings
from serving.network_settings import NetworkSettings
from serving.security_settings import SecuritySettings
from serving.triton_settings import TritonSettings

ENVIRONMENT_PREFIX: Final = "PENSTOCK_"


class PassportPolicy(Enum):
    """What a missing or contradicted passport does to a load."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


class ModelControlMode(Enum):
    """Which models are served, and who changes them, by Triton's names.

    `none` all of the repositories as they are at start; `poll` all, followed as they change;
    `explicit` those named at start, changed by clients' requests to load and unload.
    """

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"


class LogFormat(Enum):
    """How a line of the log looks; what a flag or a variable says are the names."""

    DEFAULT = "default"
    ISO8601 = "ISO8601"
    JSON = "json"


def cache(text: str) -> int:
    """The size in bytes that `local,size=BYTES` names; BadParameter for anything else."""
    kind, _, setting = text.partition(",")
    key, _, size = setting.partition("=")
    if kind != "local":
        raise click.BadParameter(f"{text!r} is not the cache 'local', the one kind there is")
    if key != "size" or not size.isdecimal() or not int(size):
        raise click.BadParameter(f"{text!r} is not local,size=BYTES with a whole number above 0")
    return int(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(
    EngineSettings,
    TritonSettings,
    LoadingSettings,
    NetworkSettings,
    ChannelSettings,
    SecuritySettings,
    MetricsSettings,
    DeprecatedSettings,
):
    """The settings of one server; sizes in bytes, times in seconds."""

    model_repository: tuple[Location, ...] = field(
        default=(Path("model_repository"),),
        metadata=_flag(
            "A folder of models, or the URL of one: s3://BUCKET/PREFIX, "
            "s3://HOST:PORT/BUCKET/PREFIX, gs://…, as://ACCOUNT/CONTAINER/PREFIX; may be given "
            "several times.",
            LocationType(),
            multiple=True,
        ),
    )
    model_repository_cache: Path = field(
        default=Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "penstock", "repositories"),
        metadata=_flag(
            "The folder for what is fetched from repositories behind URLs; servers may share it.",
            click.Path(path_type=Path, file_okay=False),
        ),
    )
    model_control_mode: ModelControlMode = field(
        default=ModelControlMode.NONE,
        metadata=_flag(
            "none serves every model as it is at start; poll follows what changes in the "
            "repositories; explicit serves what --load-model names and lets clients load and "
            "unload.",
            click.Choice(ModelControlMode, case_sensitive=False),
        ),
    )
    load_model: tuple[str, ...] = field(
        default=(),
        metadata=_flag(
            "A model to load at start in explicit mode; may be given several times; * loads all.",
            str,
            multiple=True,
        ),
    )
    repository_poll_secs: int = field(
        default=15,
        metadata=_flag(
            "How often to look for changes in poll mode; 0 looks at start only.", click.IntRange(0)
        ),
    )
    model_load_thread_count: int = field(
        default=4,
        metadata=_flag("Models that may be loaded at the same time.", click.IntRange(1)),
    )
    max_queue_size: int = field(
        default=4096,
        metadata=_flag(
            "Requests that may wait for one model version where its config.pbtxt sets no "
            "max_queue_size; more are refused at once.",
            click.IntRange(1),
        ),
    )
    cache_config: tuple[int, ...] = field(
        default=(),
        metadata=_flag(
            "local,size=BYTES: a response cache, for the models that ask for one, and the most "
            "memory that it may take. Without it nothing is cached.",
            cache,
            multiple=True,
        ),
    )
    response_cache_byte_size: int = field(
        default=0,
        metadata=_flag(
            "The size of the response cache, by tritonserver's older flag; 0 is none.",
            click.IntRange(0),
        ),
    )
    exit_on_error: bool = field(
        default=True,
        metadata=_flag(
            "Whether to stop at start where a model does not load, rather than serve the rest.",
            bool,
        ),
    )
    strict_readiness: bool = field(
        default=True,
        metadata=_flag("Whether ready means that every model that was to be loaded answers.", bool),
    )
    exit_timeout_secs: int = field(
        default=30,
        metadata=_flag(
            "How long accepted requests may take to finish when the server stops.",
            click.IntRange(0),
        ),
    )
    exit_grace_secs: float = field(
        default=0.0,
        metadata=_flag(
            "How long to answer on, already not ready, before the server stops accepting: the time "
            "that load balancers need to notice.",
            FiniteRange(0),
        ),
    )
    passport_policy: PassportPolicy = field(
        default=PassportPolicy.WARN,
        metadata=_flag(
            "What a missing passport, or one that the files contradict, does to a load.",
            click.Choice(PassportPolicy, case_sensitive=False),
        ),
    )
    log_format: LogFormat = field(
        default=LogFormat.DEFAULT,
        metadata=_flag(
            "How the log is written: default is for people, ISO8601 has such times in UTC, json is "
            "an object a line.",
            click.Choice(LogFormat, case_sensitive=False),
        ),
    )
    log_verbose: int = field(
        default=0, metadata=_flag("1 logs every request.", Level(0, 2**32 - 1))
    )
    log_info: bool = field(default=True, metadata=_flag("Whether to log what goes on.", bool))
    log_warning: bool = field(default=True, metadata=_flag("Whether to log warnings.", bool))
    log_error: bool = field(default=True, metadata=_flag("Whether to log errors.", bool))
    trace_config: tuple[str, ...] = field(
        default=(),
        metadata=_flag(
            "A trace setting, as [MODE,]SETTING=VALUE; may be given several times. "
            "level=TIMESTAMPS (or TENSORS), rate and count say which requests are traced; "
            "triton,file where the traces go and triton,log-frequency how many make a file; "
            "mode=opentelemetry sends them to opentelemetry,url instead.",
            str,
            multiple=True,
        ),
    )
    log_file: str = field(
        default="",
        metadata=_flag("The file that the log is added to; else it goes to standard error.", str),
    )

    def __post_init__(self) -> None:
        NetworkSettings.__post_init__(self)
        SecuritySettings.__post_init__(self)
        EngineSettings.__post_init__(self)
        TritonSettings.__post_init__(self)
        if self.engine is EngineKind.TRITON:
            self._check_servers()
        elif self.triton_use_ssl:
            raise click.UsageError("--triton-use-ssl is for --engine=triton.")
        if self.load_model and self.model_control_mode is not ModelControlMode.EXPLICIT:
            raise click.UsageError(
                "Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
            )
        if "*" in self.load_model and len(set(self.load_model)) > 1:
            raise click.UsageError(
                "Wildcard model name '*' must be the ONLY startup model if specified at all."
            )
        if self.cache_config and self.response_cache_byte_size:
            raise click.UsageError(
                "Incompatible flags --cache-config and --response-cache-byte-size both provided. "
                "Please provide one or the other."
            )

        # Read again where they count; here for what is wrong with them.
        _ = self.metrics, self.default_max_batch_size

    def _check_servers(self) -> None:
        """UsageError for what only the embedded engine would heed, and for asking oneself."""
        meaningless = _EMBEDDED_ONLY - ({"max_queue_size"} if self.gateway_batching else set())
        for setting in fields(self):
            if setting.name in meaningless and getattr(self, setting.name) != setting.default:
                flag = setting.name.replace("_", "-")
                raise click.UsageError(
                    f"--{flag} says nothing with --engine=triton: say it to the Triton servers."
                )
        own = {f"{host}:{self.grpc_port}" for host in ("localhost", "127.0.0.1", "[::1]")}
        if self.allow_grpc and own & set(self.triton_servers):
            raise click.UsageError(
                f"--triton-url: port {self.grpc_port} of this machine is the one that this server "
                "listens on itself; choose another for it with --grpc-port."
            )

    @property
    def cache_size(self) -> int:
        """The bytes that the response cache may take; 0 if there is to be none."""
        return (self.cache_config or (self.response_cache_byte_size,))[-1]


# What has models loaded and run in this process, or not.
_EMBEDDED_ONLY: Final = frozenset(
    {
        "model_repository",
        "model_control_mode",
        "load_model",
        "cache_config",
        "response_cache_byte_size",
        "max_queue_size",
        "backend_config",
        "device",
        "accelerator_build",
        "passport_policy",
    }
)

# Tritonserver's older flags for the same.
_OTHER_NAMES: Final = {"model_repository": ("--model-store",)}

_Command = TypeVar("_Command", bound=Callable[..., Any])

# As `penstock validate` takes them; `given` has them stand for --model-repository.
repositories: Final = click.argument(
    "repositories", metavar="[REPOSITORY]...", nargs=-1, type=LocationType()
)


def options(command: _Command) -> _Command:
    """Give a click command an option, with its variable, for each field of `Settings`."""
    for setting in fields(Settings):
        command = option(setting.name)(command)
    return command


def given(values: Mapping[str, Any]) -> Settings:
    """What the values of `repositories` and `options` come to.

    Raises UsageError for what makes no server, or names the repositories in two ways.
    """
    chosen = dict(values)
    if named := chosen.pop("repositories"):
        source = click.get_current_context().get_parameter_source("model_repository")
        if source is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{' '.join(map(str, named))} and --model-repository both name repositories: "
                "name all of them in one way."
            )
        chosen["model_repository"] = named
    settings = Settings(**chosen)
    if not (settings.allow_http or settings.allow_grpc or settings.allow_metrics):
        raise click.UsageError(
            "--allow-http, --allow-grpc and --allow-metrics are all false, so nobody could call "
            "this server: leave out at least one of the first two."
        )
    return settings


def option(name: str, *, hidden: bool = False) -> Callable[[_Command], _Command]:
    """A click command's option, with its variable, for the field `name` of `Settings`.

    A hidden one is taken, and not told of in the help.
    """
    setting = next(setting for setting in fields(Settings) if setting.name == name)
    # A flag that stands alone is true.
    is_boolean = setting.metadata["type"] is bool
    alone: dict[str, Any] = {"is_flag": False, "flag_value": True} if is_boolean else {}
    return click.option(
        f"--{name.replace('_', '-')}",
        *_OTHER_NAMES.get(name, ()),
        name,
        type=setting.metadata["type"],
        multiple=setting.metadata["multiple"],
        default=setting.metadata["default"] or _as_typed(setting.default),
        envvar=ENVIRONMENT_PREFIX + name.upper(),
        help=setting.metadata["help"],
        show_default=True,
        show_envvar=True,
        hidden=hidden,
        **alone,
    )


def _as_typed(default: Any) -> Any:
    """A default as a user would write it, for the help to show."""
    if isinstance(default, bool):
        return str(default).lower()
    return default.name.lower() if isinstance(default, Enum) else default
