"""A repository behind a URL as one that models are read from: listed there, read from a copy."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from serving.errors import LoadFailed
from serving.location import Remote
from serving.storage.cache import Cache
from serving.storage.fetching import Fetcher
from serving.storage.names import refusals
from serving.storage.objects import Changed, Object
from serving.storage.progress import progress
from serving.storage.store import Store
from serving.storage.trees import Tree, Trees

logger = logging.getLogger("penstock.storage")

# The objects among those of a model, or of a repository, that are to be fetched.
Choose: TypeAlias = Callable[[Sequence[Object]], Sequence[Object]]

# How often what changes as it is fetched is listed anew.
_ATTEMPTS: Final = 5


class Mirror:
    """The repository `remote`, copies of which lie in the folder `cache`; for any thread.

    What is read of a model is what lay behind the URL at one moment. LoadFailed says what is wrong
    with the store, its objects or the cache, and the cure.
    """

    def __init__(
        self, remote: Remote, cache: Path, say: Callable[[str], None] = logger.info
    ) -> None:
        self.url = remote.url
        self._store = Store(remote)
        self._cache = Cache(cache)
        with self._cache.telling():
            self._trees = Trees(self._cache.trees)
        self._fetcher = Fetcher(self._store, self._cache, progress(say))
        self._latest: dict[str, tuple[Sequence[Object], Tree]] = {}

    def __str__(self) -> str:
        return self.url

    def models(self) -> list[str]:
        """The names of the folders in the repository."""
        names = self._store.folders()
        for gone in self._latest.keys() - names:
            self._latest.pop(gone, None)
        return names

    def look(self, name: str) -> Callable[[], Tree] | None:
        """What fetches the model `name`, as it is now, into a folder; None if it is not there."""
        objects = self._store.objects(name)
        return partial(self._fetch_model, name, objects) if objects else None

    def copy(self) -> tuple[Tree, Mapping[str, str]]:
        """All of the repository in a folder, and why some of its objects are not in there."""
        refused: dict[str, str] = {}

        def fit(objects: Sequence[Object]) -> Sequence[Object]:
            refused.clear()
            refused.update(refusals(one.name for one in objects))
            return [one for one in objects if one.name not in refused]

        _, tree = self._fetch("", self._store.objects(), fit)
        return tree, refused

    def close(self) -> None:
        """Break off what is being fetched, and what the store is asked."""
        self._fetcher.stop()
        self._store.close()

    def _fetch_model(self, name: str, objects: Sequence[Object]) -> Tree:
        known, tree = self._latest.get(name, ((), None))
        if tree is None or known != objects or not tree.is_intact():
            _, tree = self._latest[name] = self._fetch(name, objects, self._all_fit)
        return tree

    def _fetch(
        self, name: str, objects: Sequence[Object], choose: Choose
    ) -> tuple[Sequence[Object], Tree]:
        """`objects`, or those that have taken their place meanwhile, and what `choose` takes."""
        for _ in range(_ATTEMPTS):
            try:
                files = self._fetcher.fetch(f"{self.url}/{name}".rstrip("/"), choose(objects))
            except Changed as change:
                logger.info("%s/%s has changed while it was fetched", self.url, change)
                files = None
            listed, objects = objects, self._store.objects(name)
            if files is not None and listed == objects:
                with self._cache.telling():
                    self._cache.forget_unused()
                    return objects, self._trees.grow(files)
        raise LoadFailed(
            f"{self.url}/{name}: has changed with each of {_ATTEMPTS} attempts to fetch it; it is "
            "to be loaded again when nobody writes to it"
        )

    def _all_fit(self, objects: Sequence[Object]) -> Sequence[Object]:
        for name, reason in refusals(one.name for one in objects).items():
            raise LoadFailed(f"{self.url}/{name}: cannot be a file: {reason}; rename the object")
        return objects
