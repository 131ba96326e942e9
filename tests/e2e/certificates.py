"""An authority of the test's own, and files with what it vouches for."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme


@dataclass(frozen=True, slots=True)
class Files:
    """PEM: a certificate with those above it, its key, and the authority that vouches for it."""

    certificate: Path
    key: Path
    root: Path

    def flags(self, protocol: str, *, mutual: bool = False) -> list[str]:
        """What makes a server speak TLS with these."""
        return [
            f"--{protocol}-use-ssl{'-mutual' if mutual else ''}=true",
            f"--{protocol}-server-cert={self.certificate}",
            f"--{protocol}-server-key={self.key}",
            f"--{protocol}-root-cert={self.root}",
        ]


class Authority:
    """Vouches for servers on this machine and for clients."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def issue(
        self, folder: Path, first: datetime | None = None, last: datetime | None = None
    ) -> Files:
        """Write a new certificate into `folder`, over what is there."""
        issued = self._authority.issue_cert(
            "localhost", "127.0.0.1", not_before=first, not_after=last
        )
        files = Files(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        files.certificate.write_bytes(chain)
        files.key.write_bytes(issued.private_key_pem.bytes())
        files.root.write_bytes(self._authority.cert_pem.bytes())
        return files


def client_options(name: str, root: Path, own: Files | None = None) -> dict[str, Any]:
    """How an official client is told whom to trust, and whose certificate to show."""
    if name.startswith("grpc"):
        options: dict[str, Any] = {"ssl": True, "root_certificates": str(root)}
        if own:
            options |= {"private_key": str(own.key), "certificate_chain": str(own.certificate)}
        return options
    if name == "http.aio":
        return {"ssl": True, "ssl_context": context(root, own)}
    files = {"ca_certs": str(root)}
    if own:
        files |= {"certfile": str(own.certificate), "keyfile": str(own.key)}
    return {"ssl": True, "ssl_options": files}


def context(root: Path, own: Files | None = None) -> ssl.SSLContext:
    """The same for everything that takes a context of Python's."""
    made = ssl.create_default_context(cafile=root)
    if own:
        made.load_cert_chain(own.certificate, own.key)
    return made
