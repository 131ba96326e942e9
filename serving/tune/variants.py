"""Other precisions of a model, as `penstock export --variants` publishes them beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from serving.bench.client.fleet import Died
from serving.bench.model import Unsuitable
from serving.bench.server import Unanswered
from serving.passport import Passport, PassportError, VariantProof, read
from serving.tune.bench_server import Failed, serving
from serving.tune.candidates import Candidate
from serving.tune.choice import NOISE, Point, best
from serving.tune.measure import Load, Measurement

_PASSPORT: Final = "passport.json"


@dataclass(frozen=True, slots=True)
class Variant:
    """A model that answers as another does, in a lower precision, and what was proven of it.

    `unit` is that of the proof's loss.
    """

    name: str
    proof: VariantProof
    unit: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A variant as the choice is served: its best point; None where it meets the objective nowhere.

    `failure` says why it could not be measured at all.
    """

    variant: Variant
    point: Point | None
    failure: str = ""


def find(repository: Path, model: str) -> Iterator[Variant]:
    """Those in the repository that were made of a version of `model` that is there."""
    made_of = {
        sha256 for passport in _passports(repository / model) for sha256 in passport.files.values()
    }
    for folder in sorted(repository.iterdir()):
        for passport in _passports(folder)[-1:]:
            proof = passport.variant
            if proof and proof.fp32_sha256 in made_of and folder.name != model:
                unit = "points of accuracy" if passport.accuracy else "% of the error"
                yield Variant(folder.name, proof, unit)


def compare(
    repository: Path, variants: Sequence[Variant], chosen: Point, load: Load
) -> Iterator[Compared]:
    """Each in a server of its own, with the instances, threads, batches and delay of the choice."""
    for variant in variants:
        try:
            points = _measured(repository, variant.name, chosen.candidate, load)
        except (Failed, Unanswered, Unsuitable, Died) as error:
            yield Compared(variant, None, str(error))
        else:
            yield Compared(variant, best(points))


def sentence(compared: Compared, chosen: Point, objective: str) -> str:
    """What to make of it."""
    name, proof, point = compared.variant.name, compared.variant.proof, compared.point
    costs = f"{name} ({proof.precision}, loses {proof.loss:.2f} {compared.variant.unit})"
    if compared.failure:
        return f"{costs} could not be measured: {compared.failure}"
    if point is None:
        return f"{costs} misses {objective} at every load."
    times = point.throughput / chosen.throughput
    figures = f"{point.throughput:,.0f} answers/s ({1000 * point.latency:.2f} ms)"
    if times <= 1 + NOISE:
        return f"{costs}: {figures}; fp32 gives as many or more, stay with it."
    return f"{costs}: {figures}, {times:.2f} times as many: have clients ask for it by its name."


def document(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """All of it for machines; latencies in seconds, null where the objective is missed."""
    return [
        {
            "model": each.variant.name,
            "precision": each.variant.proof.precision,
            "loss": each.variant.proof.loss,
            "connections": each.point and each.point.connections,
            "throughput": each.point and each.point.throughput,
            "latency": each.point and each.point.latency,
            "failure": each.failure or None,
        }
        for each in compared
    ]


def _measured(
    repository: Path, name: str, candidate: Candidate | None, load: Load
) -> Sequence[Point]:
    with serving(str(repository), name) as server:
        config = server.config()
        if candidate is not None:
            candidate = replace(candidate, rows=min(candidate.rows, config.max_batch_size))
        silent = Measurement(server, config, load, lambda candidate: None, lambda points: None)
        return silent(candidate)


def _passports(folder: Path) -> list[Passport]:
    """Those of a model's versions, in their order; what is none is left out."""
    found = []
    versions = (each for each in folder.glob("[0-9]*") if each.name.isdecimal())
    for version in sorted(versions, key=lambda each: int(each.name)):
        try:
            found.append(read(version / _PASSPORT))
        except (OSError, PassportError):
            continue
    return found
