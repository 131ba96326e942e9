"""Flags of TLS want their partners, and files that hold what they are for; the cure is told."""

import datetime
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from serving.errors import ServingError
from serving.gateway import tls
from serving.settings import Settings
from tests.e2e.certificates import Authority, Files, context

ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Files:
    return authority.issue(tmp_path)


def settings(protocol: str, files: Files, **others: Any) -> Settings:
    given = {
        "use_ssl": True,
        "server_cert": str(files.certificate),
        "server_key": str(files.key),
        **others,
    }
    return Settings(**{f"{protocol}_{name}": value for name, value in given.items()})


def refusal(protocol: str, given: Settings) -> str:
    with pytest.raises(ServingError) as error:
        tls.identities(given, protocol)
    return error.value.message


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_without_flags_a_port_is_plain(protocol: str) -> None:
    assert tls.identities(Settings(), protocol) is None


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        ({"use_ssl": False}, "--{0}-server-cert is given, but the port would be plain"),
        (
            {"use_ssl": False, "server_cert": ""},
            "--{0}-server-key is given, but the port would be plain: add --{0}-use-ssl=true",
        ),
        ({"server_cert": ""}, "--{0}-use-ssl needs --{0}-server-cert, a file with"),
        ({"server_key": ""}, "--{0}-use-ssl needs --{0}-server-key, a file with"),
        ({"use_ssl_mutual": True}, "--{0}-use-ssl-mutual needs --{0}-root-cert, a file with"),
        ({"server_key": "/none"}, "cannot read --{0}-server-key /none: No such file or directory"),
        (
            {"use_ssl_mutual": True, "root_cert": "/none"},
            "cannot read --{0}-root-cert /none: No such file or directory",
        ),
        ({"server_cert": "/"}, "cannot read --{0}-server-cert /: Is a directory"),
    ],
)
def test_flags_want_their_partners_and_files(
    files: Files, protocol: str, others: dict[str, Any], complaint: str
) -> None:
    said = refusal(protocol, settings(protocol, files, **others))
    assert said.startswith(complaint.format(protocol))


def swapped(files: Files) -> None:
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    files.certificate.write_bytes(key)
    files.key.write_bytes(certificate)


def another_key(files: Files) -> None:
    folder = files.key.parent / "other"
    folder.mkdir()
    files.key.write_bytes(Authority().issue(folder).key.read_bytes())


def key_of_another_kind(files: Files) -> None:
    other = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
    files.key.write_bytes(other.private_key_pem.bytes())


def short_key(files: Files) -> None:
    key = rsa.generate_private_key(65537, 1024)
    nobody = x509.Name([])
    day = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder(nobody, nobody, key.public_key(), 1, day, day)
    files.certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    plain = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    files.key.write_bytes(key.private_bytes(*plain))


def encrypted(files: Files) -> None:
    files.key.write_bytes(ENCRYPTED)


def no_certificate(files: Files) -> None:
    files.certificate.write_bytes(b"")


def no_key(files: Files) -> None:
    files.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def no_root(files: Files) -> None:
    files.root.write_bytes(files.key.read_bytes())


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (swapped, "--{0}-server-cert {1.certificate} holds no certificates in PEM"),
        (another_key, "--{0}-server-key {1.key} is not the key of the first certificate in"),
        (
            key_of_another_kind,
            "--{0}-server-key {1.key} is not the key of the first certificate in",
        ),
        (
            short_key,
            "--{0}-server-cert {1.certificate} holds a certificate whose key is too short",
        ),
        (encrypted, "--{0}-server-key {1.key} is encrypted, and nobody is there"),
        (no_certificate, "--{0}-server-cert {1.certificate} holds no certificates in PEM"),
        (no_key, "--{0}-server-key {1.key} holds no private key in PEM"),
        (no_root, "--{0}-root-cert {1.root} holds no certificates in PEM"),
    ],
)
def test_a_file_that_does_not_hold_what_it_should_is_named(
    files: Files, protocol: str, broken: Callable[[Files], None], complaint: str
) -> None:
    broken(files)
    said = refusal(
        protocol, settings(protocol, files, use_ssl_mutual=True, root_cert=str(files.root))
    )
    assert said.startswith(complaint.format(protocol, files))


def test_roots_that_nobody_is_held_against_are_told_of(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "penstock.security"):
        found = tls.identities(settings("grpc", files, root_cert=str(files.root)), "grpc")
    assert found is not None
    assert found.value.content.roots is None
    assert "--grpc-use-ssl-mutual=true does" in caplog.text


@pytest.mark.parametrize(
    ("first", "last", "complaint"),
    [
        (2020, 2021, "expired on 2021-01-02 at 03:04 UTC: clients will refuse it"),
        (2070, 2071, "is not valid before 2070-01-02 at 03:04 UTC: clients will refuse it"),
        (2020, 2070, ""),
    ],
)
def test_a_certificate_out_of_date_is_told_of(
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    first: int,
    last: int,
    complaint: str,
) -> None:
    begin, end = (datetime.datetime(year, 1, 2, 3, 4) for year in (first, last))
    files = authority.issue(tmp_path, begin, end)
    with caplog.at_level(logging.WARNING, "penstock.security"):
        assert tls.identities(settings("http", files), "http") is not None
    said = f"--http-server-cert {files.certificate} {complaint}" if complaint else ""
    assert caplog.messages == ([said] if said else [])


def test_a_comment_in_any_language_may_stand_between_certificates(files: Files) -> None:
    files.root.write_text("# Prüfstelle\n" + files.root.read_text(), encoding="utf-8")
    given = settings("http", files, use_ssl_mutual=True, root_cert=str(files.root))
    assert tls.identities(given, "http") is not None


def connected(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """The client's end of a connection over which the server has said something."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    shaking = [here, there]
    for end in 3 * shaking:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    there.write(b"hello")
    assert here.read() == b"hello"
    return here


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_whom_nobody_vouches_for_any_more_takes_no_old_session_up_again(
    files: Files, tmp_path: Path, protocol: str, version: ssl.TLSVersion
) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(files.root.read_bytes())
    given = settings(protocol, files, use_ssl_mutual=True, root_cert=str(roots))
    identities = tls.identities(given, protocol)
    assert identities is not None
    server, client = tls.context(identities), context(files.root, files)
    client.maximum_version = version
    session = connected(server, client).session

    (tmp_path / "other").mkdir()
    roots.write_bytes(Authority().issue(tmp_path / "other").root.read_bytes())
    identities.refresh()

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        connected(server, client, session)
