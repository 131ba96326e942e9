"""Which models are made of which: ensembles and their parts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from serving.errors import LoadFailed

# The models that each model is made of, by name.
Parts: TypeAlias = Mapping[str, Sequence[str]]


class Circle(LoadFailed):
    """Each of `names` is made of the next one, and the last of the first."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        super().__init__(self.of(names[0]) or "")

    def of(self, name: str) -> str | None:
        """What is wrong with the model, in Triton's words; None if it is no part of the circle."""
        if name not in self._names:
            return None
        before = self._names[self._names.index(name) - 1]
        return f"circular dependency between ensembles: {name} -> ... -> {before} -> {name}"


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
