"""Certificates and keys in files that flags name; what is wrong with them is told by the flag."""

import base64
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serving.errors import ServingError

# Of the same kind, and of another one: an EC key for an RSA certificate.
_OTHERS_KEY: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", re.DOTALL)
# Of what DER has before the dates of a certificate: a field that old ones lack.
_VERSION: Final = 0xA0
# How DER writes a date, by its tag.
_DATES: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
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


def out_of_date(pem: bytes, now: datetime) -> str:
    """What is wrong with the dates of the first certificate; "" if nothing is."""
    try:
        first, last = _dates(pem)
    except (IndexError, KeyError, TypeError, ValueError):
        return ""  # which OpenSSL may read all the same
    if now > last:
        return f"expired on {last:%Y-%m-%d at %H:%M} UTC"
    return f"is not valid before {first:%Y-%m-%d at %H:%M} UTC" if now < first else ""


def _dates(pem: bytes) -> tuple[datetime, datetime]:
    """From when, and until when, the first certificate is valid (RFC 5280, 4.1)."""
    der = base64.b64decode(_CERTIFICATE.search(pem)[1])  # type: ignore[index]
    whole = _items(der, 0, len(der))[0]
    signed = _items(der, *_items(der, *whole[1:])[0][1:])
    fields = [field for field in signed if field[0] != _VERSION]
    # Behind the serial number, the algorithm and the issuer.
    first, last = (
        datetime.strptime(der[begin:end].decode(), _DATES[tag]).replace(tzinfo=UTC)
        for tag, begin, end in _items(der, *fields[3][1:])
    )
    return first, last


def _items(der: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """The items that follow each other there: the tag of each, and where its content is."""
    found = []
    while at < end:
        tag, size, begin = der[at], der[at + 1], at + 2
        if size & 0x80:  # of the size itself
            more = size & 0x7F
            size, begin = int.from_bytes(der[begin : begin + more]), begin + more
        at = begin + size
        found.append((tag, begin, at))
    return found


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
