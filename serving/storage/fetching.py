"""Objects into the cache, several at a time; what is there already is not fetched again."""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from serving.errors import LoadFailed, Unavailable
from serving.storage.cache import Cache
from serving.storage.objects import Changed, Object
from serving.storage.progress import Advance, Progress, in_units
from serving.storage.store import Store

# Each takes a connection and at most a block of memory.
_AT_A_TIME: Final = 8


class Fetcher:
    """Fetches objects of `store` into `cache`; for any thread."""

    def __init__(self, store: Store, cache: Cache, progress: Progress) -> None:
        self._store = store
        self._cache = cache
        self._progress = progress
        self._pool = ThreadPoolExecutor(_AT_A_TIME, "penstock-fetch")
        self._under_way: dict[str, Future[None]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def fetch(self, what: str, objects: Sequence[Object]) -> Mapping[str, Path]:
        """The files that hold `objects`, by their names; `what` is what they are in the log.

        Changed if one of them is not what was listed any more; then, as after LoadFailed, those
        that were fetched stay in the cache. Unavailable after `stop`.
        """
        with self._cache.telling():
            files = {one: self._cache.find(one) for one in objects}
            missing = [one for one, file in files.items() if file is None]
            if missing:
                self._fetch_missing(what, missing)
                files |= {one: self._cache.find(one) for one in missing}
        if lost := [one.name for one, file in files.items() if file is None]:
            raise LoadFailed(f"{lost[0]}: was removed from {self._cache.root} as it was fetched")
        return {one.name: file for one, file in files.items() if file is not None}

    def stop(self) -> None:
        """Break off what is being fetched, and fetch nothing more."""
        with self._lock:
            self._stopped = True
            self._pool.shutdown(wait=False)

    def _fetch_missing(self, what: str, missing: Sequence[Object]) -> None:
        size = sum(one.size for one in missing)
        free = shutil.disk_usage(self._cache.root).free
        if size > free:
            raise LoadFailed(
                f"{what}: {in_units(size)} are to be fetched, and {self._cache.root} has "
                f"{in_units(free)} left: free some, or name another folder with "
                "--model-repository-cache"
            )
        with self._progress.of(what, size) as advance:
            # All of them are waited for: what is fetched now is there at the next attempt.
            failures = [fetch.exception() for fetch in self._begin(missing, advance)]
        for failure in filter(None, failures):
            raise failure

    def _begin(self, missing: Sequence[Object], advance: Advance) -> list["Future[None]"]:
        """A future for each; an object that is being fetched already is not fetched twice."""
        with self._lock:
            self._refuse_if_stopped()
            for one in missing:
                if one.key not in self._under_way:
                    future = self._pool.submit(self._fetch_one, one, advance)
                    self._under_way[one.key] = future
            return [self._under_way[one.key] for one in missing]

    def _fetch_one(self, wanted: Object, advance: Advance) -> None:
        try:
            self._refuse_if_stopped()
            with self._cache.telling(), self._cache.partial(wanted) as file:
                try:
                    self._fill(file, wanted, advance)
                except Changed:
                    file.truncate(0)
                    raise
                self._cache.keep(wanted, file)
        finally:
            with self._lock:
                del self._under_way[wanted.key]

    def _fill(self, file: IO[bytes], wanted: Object, advance: Advance) -> None:
        # Where the machine lost power, all but the last block is sure to be on the disk.
        done = max(0, min(file.tell(), wanted.size) - 1) // Store.BLOCK * Store.BLOCK
        file.truncate(done)
        advance(done)
        for block in self._store.blocks(wanted, done):
            self._refuse_if_stopped()
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            done += len(block)
            advance(len(block))
        if done != wanted.size:
            raise Changed(wanted.name)

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise Unavailable("the server is stopping and fetches no models any more")
