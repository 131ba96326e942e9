"""How models are loaded, by tritonserver's flags."""

from dataclasses import dataclass, field
from typing import Final

import click

from serving.flags import flag

DEFAULT_MAX_BATCH_SIZE: Final = 4
# What config.pbtxt has for it: 32 bits with a sign.
_MOST: Final = 2**31 - 1

# What says nothing to a server whose backends are built in.
_ELSEWHERE: Final = ("backend-directory", "min-compute-capability", "auto-complete-config")


@dataclass(frozen=True, kw_only=True)
class LoadingSettings:
    """What a load does with a model, and who this server says that it is."""

    id: str = field(
        default="penstock", metadata=flag("Who this server says that it is, in its metadata.", str)
    )
    disable_auto_complete_config: bool = field(
        default=False,
        metadata=flag("Whether a config.pbtxt must be there, and be complete, as in Triton.", bool),
    )
    strict_model_config: bool = field(
        default=False,
        metadata=flag("The same, by tritonserver's older flag.", bool),
    )
    model_load_retry_count: int = field(
        default=0,
        metadata=flag("How often a load that has failed is tried again.", click.IntRange(0)),
    )
    backend_config: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "[BACKEND,]SETTING=VALUE; may be given several times. default-max-batch-size is what "
            "a model batches whose configuration does not say it; settings of backends that this "
            "server does not have say nothing.",
            str,
            multiple=True,
        ),
    )

    @property
    def auto_complete(self) -> bool:
        """Whether what a configuration leaves out is taken from the graph."""
        return not (self.disable_auto_complete_config or self.strict_model_config)

    @property
    def default_max_batch_size(self) -> int:
        """What a model batches that can, and does not say how much; UsageError if that is none."""
        return default_max_batch_size(self.backend_config)


def default_max_batch_size(options: tuple[str, ...]) -> int:
    """What --backend-config says of it: for ONNX Runtime, or else for all backends."""
    sizes = {"": DEFAULT_MAX_BATCH_SIZE}
    for option in options:
        setting, separator, value = option.partition("=")
        backend, comma, name = setting.rpartition(",")
        if not separator or not name or (comma and not backend):
            raise _refusal(option, "expected [BACKEND,]SETTING=VALUE")
        if backend not in ("", "onnxruntime") or (not backend and name in _ELSEWHERE):
            continue
        if name != "default-max-batch-size":
            raise _refusal(
                option,
                "there is no such setting for all models; say it in their config.pbtxt, as a "
                "parameter",
            )
        if not (value.isdecimal() and len(value) <= len(str(_MOST)) and int(value) <= _MOST):
            raise _refusal(option, f"expected a whole number up to {_MOST}")
        sizes[backend] = int(value)
    return sizes.get("onnxruntime", sizes[""])


def _refusal(option: str, why: str) -> click.UsageError:
    return click.UsageError(f"--backend-config={option}: {why}")
