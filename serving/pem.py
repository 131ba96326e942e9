"""Certificates and keys in files that flags name; what is wrong with them is told by the flag."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.errors import ServingError

# Of the same kind, and of another one: an EC key for an RSA certificate.
_OTHERS_KEY: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_TOO_WEAK: Final = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


@dataclass(frozen=True, slots=True)
class PemFile:
    """The file at `path`, "" for none, which `--flag` names."""

    flag: str
    path: str

    def __str__(self) -> str:
        return f"--{self.flag} {self.path}"

    def read(self) -> bytes:
        """What is in it; ServingError where it cannot be read."""
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise ServingError(f"cannot read {self}: {error.strerror}") from error


def take_chain(
    context: ssl.SSLContext, certificate: PemFile, key: PemFile, found: tuple[bytes, bytes]
) -> None:
    """Have the context show the certificate, where `found` was in the two files.

    Raises ServingError where they do not hold what they should, or something else by now.
    """
    if b"ENCRYPTED" in found[1]:
        raise ServingError(
            f"{key} is encrypted, and nobody is there to say the password; write it plain "
            "with `openssl pkey -in ENCRYPTED -out PLAIN`"
        )
    _refuse_without_certificates(certificate, found[0])
    try:
        context.load_cert_chain(certificate.path, key.path)
    except ssl.SSLError as error:
        raise ServingError(_why_not(certificate, key, error.reason)) from None
    except OSError as error:
        raise ServingError(f"cannot read {certificate}: {error.strerror}") from error
    if (certificate.read(), key.read()) != found:
        # OpenSSL reads files, and has read others.
        raise ServingError(f"the files of --{certificate.flag} are being written")


def _why_not(certificate: PemFile, key: PemFile, reason: str | None) -> str:
    """What keeps them from being shown, by the name that OpenSSL has for it, if it has one."""
    if reason in _OTHERS_KEY:
        return (
            f"{key} is not the key of the first certificate in {certificate}: give the key "
            "that it was made with, and that certificate before those that vouch for it"
        )
    if reason in _TOO_WEAK:
        return (
            f"{certificate} holds a certificate whose key is too short or whose digest too weak "
            f"for OpenSSL ({reason}): have it issued for an RSA key of 2048 bits or more, or an "
            "EC key, and signed with SHA-256"
        )
    return f"{key} holds no private key in PEM"


def take_roots(context: ssl.SSLContext, roots: PemFile, found: bytes) -> None:
    """Have the context trust whom the certificates vouch for; ServingError where there are none."""
    _refuse_without_certificates(roots, found)
    context.load_verify_locations(cadata=_text(found))


def _refuse_without_certificates(file: PemFile, found: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=_text(found))
    except (ssl.SSLError, ValueError):
        raise ServingError(f"{file} holds no certificates in PEM") from None


def _text(pem: bytes) -> str:
    # Comments between the certificates may be in any language.
    return pem.decode("ascii", errors="ignore")
