"""What the server asks of its callers and what it shows them, of both protocols together."""

from dataclasses import dataclass
from typing import Any

from serving import followed
from serving.gateway import api_keys, authorisation, tls
from serving.gateway.authorisation import Authorisation
from serving.gateway.tls import Identities
from serving.settings import Settings


@dataclass(frozen=True, slots=True)
class Security:
    """Who may call, and the certificates of the ports; those of a plain port are None."""

    http: Authorisation
    grpc: Authorisation
    http_identities: Identities | None
    grpc_identities: Identities | None
    _files: tuple[followed.Followed[Any, Any], ...]

    @classmethod
    def of(cls, settings: Settings) -> "Security":
        """What the settings say; ServingError where they, or the files they name, are wrong."""
        keys = api_keys.followed(settings.api_keys_file) if settings.api_keys_file else None
        http = tls.identities(settings, "http") if settings.allow_http else None
        grpc = tls.identities(settings, "grpc") if settings.allow_grpc else None
        return cls(
            authorisation.of_http(settings, keys),
            authorisation.of_grpc(settings, keys),
            http,
            grpc,
            tuple(one for one in (keys, http, grpc) if one is not None),
        )

    async def follow(self) -> None:
        """Take over what changes in the files, until cancelled."""
        if self._files:
            await followed.follow(self._files)
