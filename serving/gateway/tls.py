"""TLS and mutual TLS for either protocol; renewed certificates come into force without a restart.

The flags are those that tritonserver has for gRPC, and the same for HTTP. New connections get what
is in the files by then; those that are open go on.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import grpc

from serving.errors import ServingError
from serving.gateway.followed import Followed
from serving.settings import Settings

logger = logging.getLogger("penstock.security")


class Content(NamedTuple):
    """What is in the files, all of it PEM; no roots where clients need no certificate."""

    certificate: bytes
    key: bytes
    roots: bytes | None


class Identity(NamedTuple):
    """Who the server is, and whose clients it takes."""

    context: ssl.SSLContext
    content: Content


Identities: TypeAlias = Followed[Content, Identity]


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one protocol, as its flags name them."""

    protocol: str
    certificate: str
    key: str
    roots: str

    def read(self) -> Content:
        return Content(
            self._read("server-cert", self.certificate),
            self._read("server-key", self.key),
            self._read("root-cert", self.roots) if self.roots else None,
        )

    def _read(self, flag: str, file: str) -> bytes:
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise ServingError(
                f"cannot read --{self.protocol}-{flag} {file}: {error.strerror}"
            ) from error

    def parse(self, content: Content) -> Identity:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._take_chain(context, content)
        if content.roots is not None:
            self._take_roots(context, content.roots)
        if self.read() != content:
            # OpenSSL reads files, and has read others.
            raise ServingError(f"the files of --{self.protocol}-server-cert are being written")
        if self.protocol == "grpc":
            context.set_alpn_protocols(["h2"])
        return Identity(context, content)

    def _take_chain(self, context: ssl.SSLContext, content: Content) -> None:
        key_flag = f"--{self.protocol}-server-key {self.key}"
        certificate_flag = f"--{self.protocol}-server-cert {self.certificate}"
        if b"ENCRYPTED" in content.key:
            raise ServingError(
                f"{key_flag} is encrypted, and nobody is there to say the password; write it plain "
                "with `openssl pkey -in ENCRYPTED -out PLAIN`"
            )
        if not _has_certificates(content.certificate):
            raise ServingError(f"{certificate_flag} holds no certificates in PEM")
        try:
            context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ServingError(
                    f"{key_flag} is not the key of the first certificate in {certificate_flag}: "
                    "give the key that it was made with, and the server's own certificate before "
                    "those that vouch for it"
                ) from None
            raise ServingError(f"{key_flag} holds no private key in PEM") from None
        except OSError as error:
            raise ServingError(f"cannot read {certificate_flag}: {error.strerror}") from error

    def _take_roots(self, context: ssl.SSLContext, roots: bytes) -> None:
        if not _has_certificates(roots):
            raise ServingError(
                f"--{self.protocol}-root-cert {self.roots} holds no certificates in PEM"
            )
        context.load_verify_locations(cadata=_text(roots))
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again is not held against the roots, which may be others by
        # then: every connection shows its certificate.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET


def _has_certificates(pem: bytes) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=_text(pem))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _text(pem: bytes) -> str:
    # Comments between the certificates may be in any language.
    return pem.decode("ascii", errors="ignore")


def identities(settings: Settings, protocol: str) -> Identities | None:
    """Those of `protocol`, "http" or "grpc"; None where it is to be plain.

    Raises ServingError where flags lack their partners, or a file does not hold what it should.
    """

    def given(flag: str) -> Any:
        return getattr(settings, f"{protocol}_{flag}")

    is_mutual = given("use_ssl_mutual")
    files = _Files(protocol, given("server_cert"), given("server_key"), given("root_cert"))
    if not (is_mutual or given("use_ssl")):
        _refuse_files_without_tls(files)
        return None
    _refuse_missing(files, is_mutual)
    if files.roots and not is_mutual:
        logger.warning(
            "--%s-root-cert is for the certificates of clients, which nobody asks them for; "
            "--%s-use-ssl-mutual=true does",
            protocol,
            protocol,
        )
        files = _Files(protocol, files.certificate, files.key, "")
    return Followed(f"certificates of {protocol}", files.read, files.parse)


def _refuse_files_without_tls(files: _Files) -> None:
    for flag, file in (("cert", files.certificate), ("key", files.key)):
        if file:
            raise ServingError(
                f"--{files.protocol}-server-{flag} is given, but the port would be plain: add "
                f"--{files.protocol}-use-ssl=true, or leave the files out"
            )


def _refuse_missing(files: _Files, is_mutual: bool) -> None:
    wanted = [
        (files.certificate, "server-cert", "the server's certificate and those that vouch for it"),
        (files.key, "server-key", "its private key"),
    ]
    if is_mutual:
        wanted.append((files.roots, "root-cert", "the certificates that vouch for clients"))
    for file, flag, meaning in wanted:
        if not file:
            switch = "use-ssl-mutual" if is_mutual else "use-ssl"
            raise ServingError(
                f"--{files.protocol}-{switch} needs --{files.protocol}-{flag}, a file with "
                f"{meaning} in PEM"
            )


def context(followed: Identities) -> ssl.SSLContext:
    """A context to listen with, which hands each new client over to the identity in force."""

    def hand_over(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = followed.value.context

    listening = followed.value.context
    # Called at the beginning of each handshake, whether the client names a server or not.
    listening.sni_callback = hand_over
    return listening


def grpc_credentials(followed: Identities) -> grpc.ServerCredentials:
    """Credentials that gRPC asks, for each new connection, whether there are others by now."""
    told = followed.value

    def renewed() -> Any:
        # On a thread of gRPC's.
        nonlocal told
        if followed.value is told:
            return None
        told = followed.value
        return _configuration(told.content)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(told.content), renewed, told.content.roots is not None
    )


def _configuration(content: Content) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(content.key, content.certificate)], content.roots
    )
