"""The flags of tritonserver that are no settings of ours: what comes of each, and why.

A start script for Triton starts this server: a flag that asks for what is so anyway is taken, and
one that asks for what cannot be had is refused by its name, with the cure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

_NO_GPU_MEMORY: Final = "no memory is set aside; each session on a GPU has an arena of its own"
_BUILT_IN: Final = "backends and caches are built in; what is none of them is refused by its load"
_NOT_SAGEMAKER: Final = "says nothing without --allow-sagemaker"
_NOT_VERTEX: Final = "says nothing without --allow-vertex-ai"
_NO_READER: Final = "no model of the backends here reads parameters of requests, nor does Triton's"

# What each asks for is so anyway, or says nothing here.
ACCEPTED: Final[Mapping[str, str]] = {
    "backend-directory": _BUILT_IN,
    "buffer-manager-thread-count": "tensors are copied in the instances' own threads",
    "cache-directory": _BUILT_IN,
    "cuda-memory-pool-byte-size": _NO_GPU_MEMORY,
    "cuda-virtual-address-size": _NO_GPU_MEMORY,
    "enable-peer-access": "no memory of one GPU is read by another",
    "grpc-header-forward-pattern": _NO_READER,
    "grpc-infer-allocation-pool-size": "nothing is kept for reuse; memory is bounded by the limits",
    "http-header-forward-pattern": _NO_READER,
    "http-thread-count": "an event loop answers all; models compute in threads of their own",
    "min-supported-compute-capability": "ONNX Runtime takes the GPUs that it was built for",
    "pinned-memory-pool-byte-size": _NO_GPU_MEMORY,
    "rate-limit-resource": "says nothing while --rate-limit is off, in Triton neither",
    "repoagent-directory": "there are no agents; a model that names one is refused by its load",
    "sagemaker-port": _NOT_SAGEMAKER,
    "sagemaker-safe-port-range": _NOT_SAGEMAKER,
    "sagemaker-thread-count": _NOT_SAGEMAKER,
    "vertex-ai-default-model": _NOT_VERTEX,
    "vertex-ai-port": _NOT_VERTEX,
    "vertex-ai-thread-count": _NOT_VERTEX,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a flag cannot be honoured, and what to do; `fine` are the values that ask for nothing."""

    reason: str
    cure: str
    fine: tuple[str, ...] = ()


_NO: Final = ("false", "0")

REFUSED: Final[Mapping[str, Refusal]] = {
    "allow-sagemaker": Refusal(
        "SageMaker's endpoints are not offered",
        "have a proxy map /ping and /invocations to the routes of the protocol",
        _NO,
    ),
    "allow-vertex-ai": Refusal(
        "Vertex AI's endpoints are not offered",
        "have a proxy map its health and predict routes to those of the protocol",
        _NO,
    ),
    "host-policy": Refusal(
        "instances are not bound to processors",
        "start the server under taskset or numactl; it takes as many threads as that leaves it",
    ),
    "model-config-name": Refusal(
        "a model has one configuration, config.pbtxt",
        "put the file that you want to be in force in its place",
    ),
    "model-load-gpu-limit": Refusal(
        "no load is refused for the memory of a GPU",
        "cap the arenas of models by gpu_mem_limit",
    ),
    "model-namespacing": Refusal(
        "models are told apart by their names alone",
        "serve repositories with equal names by a server each",
        _NO,
    ),
    "rate-limit": Refusal(
        "instances share no resources but the processors",
        "bound a model by the count of its instance_group and by max_queue_size",
        ("off",),
    ),
}


def flags(command: _Command) -> _Command:
    """Give a click command the flags, which are not in its help."""
    for name in (*ACCEPTED, *REFUSED):
        command = click.option(
            f"--{name}",
            hidden=True,
            expose_value=False,
            multiple=True,
            callback=_judge if name in REFUSED else None,
        )(command)
    return command


def _judge(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
    assert option.name is not None
    name = option.name.replace("_", "-")
    refusal = REFUSED[name]
    for value in values:
        if value.lower() not in refusal.fine:
            raise click.UsageError(f"--{name}={value}: {refusal.reason}; {refusal.cure}.")


def as_table() -> str:
    """What comes of each flag, as docs/compatibility.md shows it."""
    taken = [(f"`--{name}`", "taken", reason) for name, reason in ACCEPTED.items()]
    refused = [
        (f"`--{name}`", _but_for(refusal), f"{refusal.reason}: {refusal.cure}")
        for name, refusal in REFUSED.items()
    ]
    rows = [f"| {' | '.join(row)} |" for row in sorted((*taken, *refused))]
    return "\n".join(("| flag | here | why |", "|---|---|---|", *rows, ""))


def _but_for(refusal: Refusal) -> str:
    return f"refused, unless it is `{refusal.fine[0]}`" if refusal.fine else "refused"


if __name__ == "__main__":
    print(as_table(), end="")
