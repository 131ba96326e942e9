"""TLS and mutual TLS for either protocol; renewed certificates come into force without a restart.

The flags are those that tritonserver has for gRPC, and the same for HTTP. New connections get what
is in the files by then; those that are open go on.
"""

import contextlib
import logging
import socket
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import grpc

from serving import pem
from serving.acceptor import BEGINNING
from serving.errors import ServingError
from serving.followed import Followed
from serving.pem import PemFile
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
    """The files of one protocol."""

    protocol: str
    certificate: PemFile
    key: PemFile
    roots: PemFile

    def read(self) -> Content:
        return Content(
            self.certificate.read(), self.key.read(), self.roots.read() if self.roots.path else None
        )

    def parse(self, content: Content) -> Identity:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = _Speaker
        pem.take_chain(context, self.certificate, self.key, (content.certificate, content.key))
        if fault := pem.out_of_date(content.certificate, datetime.now(UTC)):
            logger.warning("%s %s: clients will refuse it", self.certificate, fault)
        if content.roots is not None:
            pem.take_roots(context, self.roots, content.roots)
            context.verify_mode = ssl.CERT_REQUIRED
        if self.protocol == "grpc":
            context.set_alpn_protocols(["h2"])
        return Identity(context, content)


def identities(settings: Settings, protocol: str) -> Identities | None:
    """Those of `protocol`, "http" or "grpc"; None where it is to be plain.

    Raises ServingError where flags lack their partners, or a file does not hold what it should.
    """

    def given(flag: str) -> Any:
        return getattr(settings, f"{protocol}_{flag}")

    is_mutual = given("use_ssl_mutual")
    files = _Files(
        protocol,
        *(
            PemFile(f"{protocol}-{flag}", given(flag.replace("-", "_")))
            for flag in ("server-cert", "server-key", "root-cert")
        ),
    )
    if not (is_mutual or given("use_ssl")):
        _refuse_files_without_tls(files)
        return None
    _refuse_missing(files, is_mutual)
    if files.roots.path and not is_mutual:
        logger.warning(
            "--%s-root-cert is for the certificates of clients, which nobody asks them for; "
            "--%s-use-ssl-mutual=true does",
            protocol,
            protocol,
        )
        files = replace(files, roots=PemFile(files.roots.flag, ""))
    return Followed(f"certificates of {protocol}", files.read, files.parse)


def _refuse_files_without_tls(files: _Files) -> None:
    for file in (files.certificate, files.key):
        if file.path:
            raise ServingError(
                f"--{file.flag} is given, but the port would be plain: add "
                f"--{files.protocol}-use-ssl=true, or leave the files out"
            )


def _refuse_missing(files: _Files, is_mutual: bool) -> None:
    wanted = [
        (files.certificate, "the server's certificate and those that vouch for it"),
        (files.key, "its private key"),
    ]
    if is_mutual:
        wanted.append((files.roots, "the certificates that vouch for clients"))
    for file, meaning in wanted:
        if not file.path:
            switch = "use-ssl-mutual" if is_mutual else "use-ssl"
            raise ServingError(
                f"--{files.protocol}-{switch} needs --{file.flag}, a file with {meaning} in PEM"
            )


class _Speaker(ssl.SSLObject):
    """The server's side of a connection, which tells a client that it refuses why it does.

    Event loops close the connection instead, so that a client without a certificate, say, would
    find it closed and nothing else.
    """

    outgoing: ssl.MemoryBIO
    connection: socket.socket | None

    def do_handshake(self) -> None:
        """As event loops go on with it, whenever anything has come."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.connection is not None:
                with contextlib.suppress(OSError):  # it may have gone
                    self.connection.send(self.outgoing.read())
            raise


class _Listening(ssl.SSLContext):
    """What a port listens with: each new connection is of the identity in force.

    A context knows its own sessions only. So who takes one up again, and is not held against the
    roots once more, was held against these.
    """

    followed: Identities

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        """As event loops begin with a connection."""
        context = self.followed.value.context
        speaker = context.wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(speaker, _Speaker), "as the identity's context has it"
        speaker.outgoing, speaker.connection = outgoing, BEGINNING.get(None)
        return speaker


def context(followed: Identities) -> ssl.SSLContext:
    """A context to listen with, which hands each new client over to the identity in force."""
    listening = _Listening(ssl.PROTOCOL_TLS_SERVER)
    listening.followed = followed
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
