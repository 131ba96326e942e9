"""Which engine process drives which GPUs, decided before there is any."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Demand(NamedTuple):
    """The GPUs, by CUDA's numbers, that a model has instances on; none: it is on the CPU alone.

    `parts` are those of the models that an ensemble is made of, which has no instance itself.
    """

    gpus: frozenset[int]
    parts: tuple[frozenset[int], ...] = ()


def layout(gpus: Sequence[int], demands: Iterable[Demand], engines: int = 0) -> list[list[int]]:
    """The GPUs of each engine process; at least one process, and the same whoever asks.

    There is a process for each of `gpus` that any model has instances on, or as many as `engines`
    says, to which these GPUs are dealt out. What is on the CPU is in all of them. An ensemble runs
    within one process, so that one is made of several where its parts would meet in none.
    """
    demands = list(demands)
    wanted = frozenset[int]().union(*(each.gpus.union(*each.parts) for each in demands))
    used = [gpu for gpu in gpus if gpu in wanted]
    number = engines or len(used) or 1
    processes = [set(used[first::number]) for first in range(number)]
    for demand in demands:
        parts = [part.intersection(used) for part in demand.parts]
        parts = [part for part in parts if part]
        if not any(all(process & part for part in parts) for process in processes):
            processes = _joined(processes, {min(part) for part in parts})
    return [sorted(process) for process in processes]


def _joined(processes: Iterable[set[int]], gpus: set[int]) -> list[set[int]]:
    """One process in the place of all that have any of `gpus`, and the rest."""
    processes = list(processes)
    joined = set[int]().union(*(process for process in processes if process & gpus))
    return [joined, *(process for process in processes if not process & gpus)]
