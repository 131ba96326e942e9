"""Which models are made of which: ensembles and their parts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

# The models that each model is made of, by name.
Parts: TypeAlias = Mapping[str, Sequence[str]]


def users(name: str, parts: Parts) -> list[str]:
    """All models made of `name`, directly or not; each before those that it is made of."""
    return _users_first(direct_users(name, parts), parts, {name})


def direct_users(name: str, parts: Parts) -> list[str]:
    """The models that name `name` as a part themselves."""
    return [user for user, used in parts.items() if name in used]


def users_first(parts: Parts) -> list[str]:
    """All models, each before those that it is made of."""
    return _users_first(parts, parts, set())


def _users_first(names: Iterable[str], parts: Parts, seen: set[str]) -> list[str]:
    """`names` and all their users but the `seen`; a circle is cut where it is met again."""
    ordered = []
    for name in names:
        if name not in seen:
            seen.add(name)
            ordered += [*_users_first(direct_users(name, parts), parts, seen), name]
    return ordered
