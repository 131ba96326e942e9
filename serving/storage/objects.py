"""What a store tells of one of its objects."""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Object:
    """One content of one object: `size` in bytes, `version` what other contents do not bear.

    `store` says which store and repository it belongs to, `name` where below that it lies.
    """

    store: str
    name: str
    size: int
    version: str

    @property
    def key(self) -> str:
        """A name for this content as this object; 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Changed(Exception):
    """An object is no longer what was listed; to be listed and fetched again."""
