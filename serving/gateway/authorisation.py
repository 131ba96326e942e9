"""Who may ask for what: one check for all ways that a request comes in, by its raw headers.

Two things may be asked of a caller, each where it is configured: an API key whose rights include
the group of the call, and the header that a restriction of the group names, as Triton has them.
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from serving.errors import PermissionDenied, Restricted, Unauthenticated
from serving.followed import Followed
from serving.gateway import api_keys
from serving.gateway.api_keys import Grant, Keys
from serving.restrictions import Group, Restriction, by_group
from serving.settings import Settings

# Names in lower case; a name may come several times.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

# What probes and people need before they have a key; a restriction can close these too.
_OPEN: Final = frozenset({Group.HEALTH, Group.DOCUMENTATION})


class _Lock(NamedTuple):
    """A header, its value, and what is said to those who do not send it."""

    header: bytes
    value: bytes
    refusal: str


class Authorisation:
    """What is asked of the callers of one protocol."""

    def __init__(
        self, locks: Mapping[Group, _Lock], keys: Followed[bytes, Keys] | None = None
    ) -> None:
        self._locks = locks
        self._keys = keys
        # Whether anything is asked of anybody; looked at for every request.
        self.is_on: Final = bool(locks) or keys is not None

    def check(self, group: Group | None, headers: Headers) -> str:
        """Let a call of `group` pass; the name of the key that it came with, or "".

        A call of no group (None), such as one of a path that is none, needs any key there is.
        Raises Unauthenticated, PermissionDenied or Restricted.
        """
        name = ""
        if self._keys is not None and group not in _OPEN:
            name = _permitted(group, _grant(self._keys.value, headers))
        lock = self._locks.get(group) if group else None
        if lock and not hmac.compare_digest(_first(headers, lock.header) or b"", lock.value):
            raise Restricted(lock.refusal)
        return name


def of_http(settings: Settings, keys: Followed[bytes, Keys] | None) -> Authorisation:
    """What the settings ask of HTTP's callers."""
    return Authorisation(_locks(settings.http_restricted_api, "API", ""), keys)


def of_grpc(settings: Settings, keys: Followed[bytes, Keys] | None) -> Authorisation:
    """What the settings ask of gRPC's callers."""
    prefix = "triton-grpc-protocol-"
    return Authorisation(_locks(settings.grpc_restricted_protocol, "protocol", prefix), keys)


def _locks(restrictions: Sequence[Restriction], noun: str, prefix: str) -> Mapping[Group, _Lock]:
    return {
        group: _Lock(
            f"{prefix}{one.key}".lower().encode(),
            one.value.encode(),
            f"This {noun} is restricted, expecting header '{prefix}{one.key}'",
        )
        for group, one in by_group(restrictions, noun.lower()).items()
    }


def _first(headers: Headers, wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


def _grant(keys: Keys, headers: Headers) -> Grant:
    key = _first(headers, b"x-api-key")
    if key is None:
        scheme, _, key = (_first(headers, b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated(
                "an API key is needed: send the header 'Authorization: Bearer KEY' or "
                "'x-api-key: KEY'"
            )
    grant = keys.get(api_keys.digest(key.strip()))
    if grant is None:
        raise Unauthenticated("the API key is not known to this server")
    return grant


def _permitted(group: Group | None, grant: Grant) -> str:
    if group is not None and group not in grant.groups:
        raise PermissionDenied(
            f"the rights of the API key '{grant.name}' do not include {group.value}"
        )
    return grant.name
