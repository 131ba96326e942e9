"""Connections to Triton servers, encrypted if the settings say so, and why there is none."""

import re
import ssl
from typing import Final, NamedTuple

import grpc

from serving import pem
from serving.followed import Followed
from serving.pem import PemFile
from serving.triton_settings import TritonSettings

_OPTIONS: Final = (
    # The gateway has limited what came in; what a model answers is never too large.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A peer that is gone without a word is missed while calls wait for it. The checks keep data
    # flowing, without which a server would take so many pings for an attack.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Else a new connection to an address would be the old one.
    ("grpc.use_local_subchannel_pool", 1),
)

# What gRPC says before the reason, and what OpenSSL says after it.
_AROUND: Final = re.compile(r".*last error: \w+: (?:ipv[46]:\S+: )?|.*_VERIFY_FAILED: |: OK$")
# How a server ends a connection whose beginning it does not like; which it is, is chance.
_CLOSED: Final = r"Socket closed|Connection reset by peer"
# The words of what goes wrong, and what is to be done about it.
_PLAIN: Final = (
    (
        "Failed parsing HTTP/2",
        "it does not speak gRPC: give the port of gRPC, Triton's own is 8001",
    ),
    (
        _CLOSED,
        "it has closed the connection: it may speak TLS (--triton-use-ssl), or no gRPC at all: "
        "Triton's own port of gRPC is 8001",
    ),
)
_ENCRYPTED: Final = (
    (
        "WRONG_VERSION_NUMBER",
        "it does not speak TLS: have it do so, or leave --triton-use-ssl out",
    ),
    (
        "Hostname Verification Check failed",
        "its certificate is not for {name}: call it in --triton-url by a name that is in there",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is refused ({said}): --triton-root-cert must hold who vouches for it",
    ),
    (
        # The latter where the server says by an alert why it does, which gRPC does not read.
        rf"{_CLOSED}|TSI_DATA_CORRUPTED",
        "it has closed the connection: it may want a --triton-client-cert, and one that it knows",
    ),
)


class _Content(NamedTuple):
    """What is in the files, all of it PEM; None where no file is named."""

    roots: bytes | None
    certificate: bytes | None
    key: bytes | None


class _Files:
    """The files of the settings."""

    def __init__(self, settings: TritonSettings) -> None:
        self._roots = PemFile("triton-root-cert", settings.triton_root_cert)
        self._certificate = PemFile("triton-client-cert", settings.triton_client_cert)
        self._key = PemFile("triton-client-key", settings.triton_client_key)

    def read(self) -> _Content:
        files = (self._roots, self._certificate, self._key)
        return _Content(*(file.read() if file.path else None for file in files))

    def parse(self, content: _Content) -> grpc.ChannelCredentials:
        # gRPC takes whatever it is given, and fails at each connection without saying why.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if content.roots is not None:
            pem.take_roots(context, self._roots, content.roots)
        if content.certificate is not None and content.key is not None:
            pem.take_chain(
                context, self._certificate, self._key, (content.certificate, content.key)
            )
        return grpc.ssl_channel_credentials(content.roots, content.key, content.certificate)


class Dialling:
    """Opens connections; renewed certificates are for those that are opened from then on."""

    def __init__(self, settings: TritonSettings) -> None:
        """ServingError where a file of the settings does not hold what it should."""
        self._credentials: Followed[_Content, grpc.ChannelCredentials] | None = None
        if settings.triton_use_ssl:
            files = _Files(settings)
            name = "certificates for the Triton servers"
            self._credentials = Followed(name, files.read, files.parse)

    def refresh(self) -> None:
        """Look whether there are other certificates by now; reads files."""
        if self._credentials is not None:
            self._credentials.refresh()

    @property
    def identity(self) -> object:
        """What connections are opened with; another object where certificates were renewed."""
        return self._credentials and self._credentials.value

    def open(self, address: str, name: str) -> grpc.aio.Channel:
        """A channel to `address`, ADDRESS:PORT, whose certificate must be for the host `name`."""
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", name))
        return grpc.aio.secure_channel(address, self._credentials.value, options=options)

    def why(self, details: str, name: str) -> str:
        """Why there is no connection to the host `name`, from gRPC's details of a failed call."""
        said = _AROUND.sub("", details)
        for words, cure in _PLAIN if self._credentials is None else _ENCRYPTED:
            if re.search(words, details):
                return cure.format(name=name, said=said)
        return said
