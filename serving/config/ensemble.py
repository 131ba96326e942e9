"""An ensemble's own configuration: its steps, and whether its tensors flow from inputs to outputs.

The sentences before the cure are Triton's own (core, `model_config_utils.cc`). What only the
steps' models can tell is in `ensemble_steps`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from serving.config.source import Fault
from serving.config.text import Proto

PLATFORM: Final = "ensemble"

_STEP: Final = "ensemble_scheduling.step"
_OBJECTIVE: Final = "latency_objective_ms"


@dataclass(frozen=True, slots=True)
class Step:
    """One model of an ensemble; `version` "" is the one that the model's policy prefers.

    `inputs` and `outputs` say which of the ensemble's tensors each of the model's own is.
    """

    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def is_ensemble(proto: Proto) -> bool:
    """Whether `proto` is of a model that runs other models in the place of a graph."""
    return bool(proto.platform == PLATFORM or proto.HasField("ensemble_scheduling"))


def steps(proto: Proto) -> tuple[Step, ...]:
    """The steps in the order in which the configuration lists them."""
    return tuple(
        Step(
            step.model_name,
            "" if step.model_version == -1 else str(step.model_version),
            dict(step.input_map),
            dict(step.output_map),
        )
        for step in proto.ensemble_scheduling.step
    )


def dependencies(proto: Proto | None) -> tuple[str, ...]:
    """The models that have to be loaded before one of this configuration, each named once."""
    listed = () if proto is None else proto.ensemble_scheduling.step
    return tuple(dict.fromkeys(step.model_name for step in listed))


def ensemble_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with an ensemble before its models are known; nothing for another model."""
    if not is_ensemble(proto):
        return
    yield from _settings(proto)
    yield from _decoupled(proto)
    faults = [*_missing(proto), *_written_twice(proto)]
    yield from faults
    if proto.HasField("ensemble_scheduling") and not faults:
        yield from _flow(proto)


def _settings(proto: Proto) -> Iterator[Fault]:
    if not proto.HasField("ensemble_scheduling"):
        yield Fault(
            "platform",
            f"ensemble scheduling must be set for ensemble {proto.name} whose platform is "
            f"{PLATFORM}: write ensemble_scheduling {{ step … }}",
        )
    elif proto.platform != PLATFORM:
        yield Fault(
            "ensemble_scheduling",
            f"ensemble scheduling cannot be set for model '{proto.name}' whose platform is not "
            f'{PLATFORM}: write platform: "{PLATFORM}" and no backend',
        )
    elif proto.backend:
        yield Fault(
            "backend",
            f"Ensemble model '{proto.name}' must have platform type '{PLATFORM}' and empty backend "
            "type: remove the backend",
        )
    for field, message in (
        ("instance_group", "instance group should not be specified for ensemble"),
        ("optimization", "optimization should not be specified for ensemble"),
        ("model_warmup", "model_warmup can not be specified for ensemble"),
    ):
        if any(given.name == field for given, _ in proto.ListFields()):
            cure = "remove it, or move it to the models of the steps"
            yield Fault(field, f"{message} '{proto.name}': {cure}")
    if _OBJECTIVE in proto.parameters:
        yield Fault(
            f'parameters["{_OBJECTIVE}"]',
            f"parameter '{_OBJECTIVE}' has no effect on ensemble '{proto.name}', which has no "
            "queue of its own: move it to the models of the steps",
        )


def _decoupled(proto: Proto) -> Iterator[Fault]:
    if proto.model_transaction_policy.decoupled:
        yield Fault(
            "model_transaction_policy.decoupled",
            f"ensemble '{proto.name}' cannot be decoupled: the embedded engine does not serve "
            "ensembles of decoupled models; remove it, or serve this model with a Triton server",
        )


def _missing(proto: Proto) -> Iterator[Fault]:
    if proto.HasField("ensemble_scheduling") and not proto.ensemble_scheduling.step:
        yield Fault("ensemble_scheduling", f"must specify 'step' for ensemble '{proto.name}'")
    for index, step in enumerate(proto.ensemble_scheduling.step):
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                yield Fault(
                    f"{_STEP}[{index}]",
                    f"must specify '{field}' in step {index} of ensemble '{proto.name}'",
                )


def _written_twice(proto: Proto) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, step in enumerate(proto.ensemble_scheduling.step):
        for output, tensor in step.output_map.items():
            if tensor in seen:
                yield Fault(
                    f'{_STEP}[{index}].output_map["{output}"]',
                    f"ensemble tensor '{tensor}' can appear in an output map only once for "
                    f"ensemble '{proto.name}' step {index}: give it a name of its own",
                )
            seen.add(tensor)


def _flow(proto: Proto) -> Iterator[Fault]:
    """Every input is read, every output is written, and nothing is computed for nobody."""
    read = {tensor for step in steps(proto) for tensor in step.inputs.values()}
    sources = _sources(proto)
    for index, given in enumerate(proto.input):
        if given.name not in read | sources.keys():
            yield _unconnected(f"input[{index}]", "input", given.name, proto, "reads")
    written = _written(proto, sources)
    unwritten = False
    for index, wanted in enumerate(proto.output):
        if wanted.name not in read | sources.keys():
            unwritten = True
            yield _unconnected(f"output[{index}]", "output", wanted.name, proto, "writes")
        elif wanted.name not in written:
            unwritten = True
            yield _unwritten(f"output[{index}]", wanted.name, proto, sources, written)
    if not unwritten:  # or else what leads to such an output would be named a second time
        yield from _unused(proto, read, written)


def _sources(proto: Proto) -> dict[str, tuple[str, ...]]:
    """For each tensor that a step writes, those that the step reads."""
    return {
        tensor: tuple(step.inputs.values())
        for step in steps(proto)
        for tensor in step.outputs.values()
    }


def _written(proto: Proto, sources: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The tensors that exist once every step has run that ever can."""
    written = {given.name for given in proto.input}
    grown = True
    while grown:
        found = {name for name, needed in sources.items() if written.issuperset(needed)} - written
        written |= found
        grown = bool(found)
    return written


def _unconnected(path: str, kind: str, name: str, proto: Proto, verb: str) -> Fault:
    return Fault(
        f"{path}.name",
        f"ensemble {kind} '{name}' for ensemble '{proto.name}' is not used: no step {verb} it; map "
        f"it in a step, or remove the {kind}",
    )


def _unwritten(
    path: str,
    name: str,
    proto: Proto,
    sources: Mapping[str, tuple[str, ...]],
    written: set[str],
) -> Fault:
    """Name the first tensor, on the way back to the inputs, that nothing can write."""
    seen, origin = {name}, name
    while before := [
        tensor for tensor in sources.get(origin, ()) if tensor not in written and tensor not in seen
    ]:
        origin = before[0]
        seen.add(origin)
    message = f"output '{name}' for ensemble '{proto.name}' is not written"
    if origin != name:
        message += f": at least one of its depending tensors, '{origin}', is not connected"
    return Fault(f"{path}.name", f"{message}: no steps lead to it from the inputs")


def _unused(proto: Proto, read: set[str], written: set[str]) -> Iterator[Fault]:
    outputs = {wanted.name for wanted in proto.output}
    for tensor, path in _mentions(proto).items():
        if tensor not in outputs and (tensor not in written or tensor not in read):
            cure = (
                "no step reads it; leave it out of the output_map"
                if tensor in written
                else "no steps lead to it from the inputs"
            )
            yield Fault(
                path, f"ensemble tensor '{tensor}' is unused in ensemble '{proto.name}': {cure}"
            )


def _mentions(proto: Proto) -> dict[str, str]:
    """Where each tensor is written, or else where it is read first."""
    paths: dict[str, str] = {}
    for field in ("output_map", "input_map"):
        for index, step in enumerate(proto.ensemble_scheduling.step):
            for name, tensor in getattr(step, field).items():
                paths.setdefault(tensor, f'{_STEP}[{index}].{field}["{name}"]')
    return paths
