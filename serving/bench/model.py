"""The model that is measured, as its server describes it, and the sizes of its inputs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serving.dtypes import from_wire
from serving.errors import InvalidArgument
from serving.types import TensorSpec, fits

DEFAULT_IDLE: Final = 1_000_000_000  # as Triton has it, nanoseconds


class Unsuitable(Exception):
    """What was asked for does not fit the model; the message says what does."""


@dataclass(frozen=True, slots=True)
class Model:
    """What requests need to know; `dims` are without the batch dimension where `rows` is not None.

    `rows` in a request; None for a model that does not batch. `outputs` are those asked for: all of
    the model's, unless some were named. `idle` is for how many nanoseconds a sequence may wait for
    its next step; 0 where it is not known to take any.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows: int | None
    idle: int = 0

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading dimensions of every tensor of a request."""
        return () if self.rows is None else (self.rows,)


def describe(
    metadata: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    batch_size: int,
    shapes: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
) -> Model:
    """The model of the server's own documents, of the protocol's JSON.

    Without a `config` (it is an extension of the protocol), or with an empty one, the model batches
    where the first dimension of every input is variable. Raises Unsuitable.
    """
    try:
        name = str(metadata["name"])
        inputs, known = (tuple(map(_spec, metadata[kind])) for kind in ("inputs", "outputs"))
    except (LookupError, TypeError, ValueError) as error:
        raise Unsuitable(
            "the server does not say the model's name, inputs and outputs as the Open Inference "
            f"Protocol has them, but {json.dumps(metadata):.200}"
        ) from error
    try:
        most, splits, optional, idle = _configured(config or {})
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unsuitable(
            "the server does not say the model's configuration as Triton has it, but "
            f"{json.dumps(config):.200}"
        ) from error
    limit = most if config else _unsaid(inputs)
    if limit is not None and batch_size > max(limit, 1) and not splits:
        takes = f"takes at most {limit} rows" if limit else "does not batch"
        raise Unsuitable(f"--batch-size {batch_size}: model '{name}' {takes}")
    is_batched = limit is None or limit > 0
    if is_batched:
        inputs, known = _without_batch(inputs), _without_batch(known)
    wanted = [each for each in inputs if each.name not in optional or each.name in shapes]
    return Model(
        name=name,
        inputs=tuple(_sized(each, shapes) for each in _known(wanted, inputs, shapes, "input")),
        outputs=tuple(_chosen(known, outputs)),
        rows=batch_size if is_batched else None,
        idle=idle,
    )


def _spec(document: Mapping[str, Any]) -> TensorSpec:
    try:
        datatype = from_wire(document["datatype"])
    except InvalidArgument as error:
        raise Unsuitable(f"'{document['name']}': {error.message}") from None
    return TensorSpec(document["name"], datatype, tuple(int(dim) for dim in document["shape"]))


def _unsaid(inputs: Sequence[TensorSpec]) -> int | None:
    """0 for a model that does not batch; None where nobody says how many rows there may be."""
    return None if inputs and all(each.dims[:1] == (-1,) for each in inputs) else 0


def _configured(config: Mapping[str, Any]) -> tuple[int, bool, set[str], int]:
    """The largest batch (0: none), whether larger ones are split, optional inputs, and `_idle`."""
    optional = {each["name"] for each in config.get("input", ()) if each.get("optional")}
    return int(config.get("max_batch_size", 0)), _splits(config), optional, _idle(config)


def _splits(config: Mapping[str, Any]) -> bool:
    """Whether larger requests run as several; Penstock's own parameter."""
    said = config.get("parameters", {}).get("split_large_requests", {})
    return str(said.get("string_value", "")).lower() in ("true", "1")


def _idle(config: Mapping[str, Any]) -> int:
    """How long a sequence of the model may be idle, nanoseconds; 0 for a model without any."""
    sequences = config.get("sequence_batching")
    if sequences is None:
        return 0
    # 0, as protobuf's JSON leaves it out, is the default.
    return int(sequences.get("max_sequence_idle_microseconds", 0)) * 1000 or DEFAULT_IDLE


def _without_batch(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(each.name, each.datatype, each.dims[1:]) for each in specs)


def _known(
    wanted: Sequence[TensorSpec],
    specs: Sequence[TensorSpec],
    named: Mapping[str, Any],
    kind: str,
) -> Sequence[TensorSpec]:
    unknown = named.keys() - {each.name for each in specs}
    if unknown:
        names = ", ".join(f"'{each.name}'" for each in specs)
        raise Unsuitable(f"the model has no {kind} '{min(unknown)}'; it has {names}")
    return wanted


def _chosen(specs: tuple[TensorSpec, ...], names: Sequence[str]) -> Sequence[TensorSpec]:
    chosen = [each for each in specs if each.name in names] if names else specs
    return _known(chosen, specs, dict.fromkeys(names), "output")


def _sized(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    """The input with every dimension that `shapes` gives it; others may stay variable."""
    dims = shapes.get(spec.name)
    if dims is None:
        return spec
    if not fits(dims, spec.dims):
        raise Unsuitable(
            f"--shape {spec.name}:{','.join(map(str, dims))}: expected {list(spec.dims)}, without "
            "the batch dimension; -1 may be any size"
        )
    return TensorSpec(spec.name, spec.datatype, dims)
