"""Whether certificates and keys of the settings are what they are for."""

from collections.abc import Iterator

from serving.doctor.findings import Finding, fault, good
from serving.errors import ServingError
from serving.gateway.security import Security
from serving.settings import Settings


def security(settings: Settings) -> Iterator[Finding]:
    """One finding: how the ports are guarded, or which file is at fault."""
    try:
        found = Security.of(settings)
    except ServingError as error:
        yield fault("security", error.message, "the server does not start; see docs/security.md")
        return
    ports = (("REST", found.http_identities), ("gRPC", found.grpc_identities))
    told = [f"{name} {'by TLS' if identities else 'plain'}" for name, identities in ports]
    keys = "by API keys" if settings.api_keys_file else "whoever asks is answered"
    yield good("security", f"{', '.join(told)}; {keys}")
