"""What is served, and what is known of the rest: state alone, changed on the event loop only.

A model's `serving` is replaced as a whole, never changed: whoever looks finds either all of the
old versions or all of the new.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from serving.engine.loading import Override, Plan
from serving.engine.repository import is_version
from serving.engine.servable import Servable
from serving.errors import InvalidArgument, NotFound, Unavailable
from serving.types import IndexEntry, ModelState

UNLOADED: Final = "unloaded"
DUPLICATE: Final = "model appears in two or more repositories"


@dataclass(frozen=True, slots=True)
class Served:
    """A version in service, and what it was made of."""

    servable: Servable
    made_of: Hashable


class Record:
    """One model: the versions in service, ascending, and why others are not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.serving: Mapping[str, Served] = {}
        # Asked for, and not unloaded since; by its own name, not as a part of another only.
        self.wanted = self.explicit = False
        # The server is not ready without it: it was in service, or failed when it was opened.
        self.required = False
        # What answers where no version is named.
        self.latest: Served | None = None
        # Out of service because a part of it was unloaded; comes back with the part.
        self.suspended = False
        # What is in service, or else what was to be.
        self.plan: Plan | None = None
        # The configuration that it was loaded with in the place of its file.
        self.override: Override | None = None
        # Why the model as a whole is not served; "" if that is told by version.
        self.fault = ""
        self._loading: frozenset[str] = frozenset()
        self._draining: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}

    @property
    def failure(self) -> str:
        """Why the model is not served as it should be, in a sentence for each version."""
        return self.fault or "\n".join(
            reason for reason in self._reasons.values() if reason != UNLOADED
        )

    def ask(self, plan: Plan, by_name: bool) -> None:
        """The model is wanted, as in `plan`."""
        self.wanted, self.suspended = True, False
        self.explicit = self.explicit or by_name
        if not self.serving:
            self.plan = plan

    def refuse(self, reason: str) -> None:
        """The model is wanted and its files are not fit to be opened; what serves goes on."""
        self.wanted = True
        self.fail(reason)

    def suspend(self) -> None:
        """The model goes out of service with a part of it, and comes back with it."""
        self.suspended = self.suspended or bool(self.serving)

    def dismiss(self) -> None:
        """The model is not wanted any more."""
        self.wanted = self.explicit = self.suspended = self.required = False
        self.override = None

    def begin(self, versions: Iterable[str]) -> None:
        """These versions are being opened."""
        self._loading = frozenset(versions)

    def fail(self, reason: str, version: int | None = None) -> None:
        """What was begun has failed, by this version if one is named; what serves goes on."""
        if version is None:
            self.fault = reason
        else:
            # They are opened in order; those before this one were, and are closed again.
            opened = {one for one in self._loading - self.serving.keys() if int(one) < version}
            self._reasons |= dict.fromkeys(opened, UNLOADED) | {str(version): reason}
            self.required = True
        self._loading = frozenset()

    def abandon(self) -> None:
        """What was begun is not to be; what serves goes on."""
        self._loading = frozenset()

    def swap(self, serving: Mapping[str, Served]) -> list[tuple[str, Served]]:
        """Put `serving` into service at once; gives what it replaces, which now drains."""
        kept = {id(served) for served in serving.values()}
        retired = [item for item in self.serving.items() if id(item[1]) not in kept]
        if serving:
            self.required = True
            self._forget_failures()
        self.serving, self._loading = serving, frozenset()
        self.latest = next(reversed(list(serving.values())), None)
        self._draining.update(version for version, _ in retired)
        return retired

    def _forget_failures(self) -> None:
        self.fault = ""
        self._reasons = {
            version: reason for version, reason in self._reasons.items() if reason == UNLOADED
        }

    def drained(self, version: str, reason: str) -> None:
        """A version that went out of service for `reason` has answered everything and is closed."""
        self._draining -= Counter([version])
        self._reasons[version] = reason

    def state(self, version: str) -> tuple[ModelState, str] | None:
        """The version's state and the reason for it; None if it was never loaded."""
        if version in self.serving:
            acceleration = self.serving[version].servable.opened.acceleration
            return ModelState.READY, acceleration.reason if acceleration else ""
        if version in self._loading:
            return ModelState.LOADING, ""
        if version in self._draining:
            return ModelState.UNLOADING, ""
        if version in self._reasons:
            return ModelState.UNAVAILABLE, self._reasons[version]
        return None

    def entries(self) -> Iterator[IndexEntry]:
        """A line of the index for each version that is or was there, or one for the model."""
        known = {*self.serving, *self._loading, *self._draining, *self._reasons}
        for version in sorted(known, key=int):
            if state := self.state(version):
                yield IndexEntry(self.name, version, *state)
        if self.fault and not self.serving:
            yield IndexEntry(self.name, "", ModelState.UNAVAILABLE, self.fault)


class Registry:
    """All models that were ever asked for, by name."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def get(self, name: str) -> Record | None:
        """What is known of the model."""
        return self._records.get(name)

    def record(self, name: str) -> Record:
        """What is known of the model, from now on."""
        return self._records.setdefault(name, Record(name))

    def find(self, name: str, version: str = "") -> Servable:
        """What answers for that version; "" means the latest.

        NotFound for what is not in service, Unavailable for a version that was or may be again,
        InvalidArgument for what is no version at all.
        """
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        served = record.serving.get(version) if version else record.latest
        if served is None:
            raise _absent(record, version)
        return served.servable

    def versions(self, name: str) -> tuple[str, ...]:
        """The model's versions in service, ascending."""
        record = self._records.get(name)
        return tuple(record.serving) if record else ()

    def serves(self, name: str) -> bool:
        """Whether any version of the model is in service."""
        return bool(self.versions(name))

    def requires(self, name: str) -> bool:
        """Whether the server is not ready without the model."""
        record = self._records.get(name)
        return record is not None and record.required

    def require(self, name: str, required: bool = True) -> None:
        """Have the server not ready without the model, if anything is known of it; or ready."""
        if record := self._records.get(name):
            record.required = required

    def ready(self) -> bool:
        """Whether every model answers that has to."""
        return all(
            record.serving or record.suspended or not record.required
            for record in self._records.values()
        )

    def index(self, places: Mapping[str, int]) -> Iterator[IndexEntry]:
        """The repository index, where `places` says in how many repositories each model lies."""
        present = {name for name, record in self._records.items() if record.serving}
        for name in sorted(present | places.keys()):
            record = self._records.get(name)
            entries = list(record.entries()) if record else []
            if places.get(name, 0) > 1 and name not in present:
                yield IndexEntry(name, "", ModelState.UNAVAILABLE, DUPLICATE)
            elif entries:
                yield from entries
            else:
                yield IndexEntry(name)


def _absent(record: Record, version: str) -> NotFound | Unavailable | InvalidArgument:
    unknown = f"Request for unknown model: '{record.name}'"
    if not version:
        return NotFound(f"{unknown} has no available versions")
    if not is_version(version) and version != "0":
        return InvalidArgument(
            f"version {version!r} of model '{record.name}' is not a version; expected a whole "
            "number above 0"
        )
    if record.state(version):
        return Unavailable(f"{unknown} version {version} is not at ready state")
    return NotFound(f"{unknown} version {version} is not found")
