"""Which GPUs the models of the repositories have instances on, without opening any."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from serving.config import placements
from serving.engine.loading import Loader, Plan
from serving.engine.repository import Repository
from serving.errors import ServingError
from serving.layout import Demand


def demands(repository: Repository, loader: Loader) -> list[Demand]:
    """What each model asks for that can be served; whoever loads the others tells why not."""
    plans: dict[str, Plan] = {}
    for name in repository.names():
        with suppress(ServingError):
            plans[name] = loader.plan(repository, name)
    return [
        Demand(_gpus(plan), tuple(_gpus(plans[part]) for part in _models(plan.parts, plans)))
        for plan in plans.values()
    ]


def _gpus(plan: Plan) -> frozenset[int]:
    configs = (version.config for version in plan.versions.values())
    places = (place for config in configs for place in placements(config))
    return frozenset(place.gpu for place in places if place.gpu is not None)


def _models(names: Iterable[str], plans: Mapping[str, Plan]) -> Iterator[str]:
    """Those of `names`, and the parts of those that are ensembles; each once."""
    left, seen = list(names), set[str]()
    while left:
        name = left.pop()
        if name in plans and name not in seen:
            seen.add(name)
            left += plans[name].parts
            yield name
