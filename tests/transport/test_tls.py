"""What is wrong with a file is said by file, value and next step (K2, K4, K5)."""

import os
import selectors
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.broker.pki import DAY, Pki
from transport.errors import TlsSetupError
from transport.tls import (
    TlsIdentity,
    client_context,
    common_name,
    explain_tls_error,
    floored_client_context,
    server_context,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAME = "A" * 26


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki", now=NOW)


@pytest.fixture
def identity(pki: Pki) -> TlsIdentity:
    return pki.issue(NAME)


def test_a_client_context_demands_tls_1_3_the_fleets_ca_and_the_servers_name(
    identity: TlsIdentity,
) -> None:
    # S2: nobody else reads.
    context = client_context(identity, now=NOW)

    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


def test_a_server_context_demands_a_client_certificate(pki: Pki) -> None:
    # S1, S2: no stranger is let in.
    context = server_context(pki.issue("broker", server=True), now=NOW)

    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_the_common_name_is_the_name_to_connect_by(identity: TlsIdentity) -> None:
    assert common_name(identity) == NAME


@pytest.mark.broker
def test_a_connection_that_is_reset_before_tls_leaves_no_socket_open(
    identity: TlsIdentity,
) -> None:
    # As a link that is cut while a car asks for a certificate; Debian 12 left the
    # socket to the garbage collector.
    context = floored_client_context(identity, floor=lambda: NOW)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        accepted, _address = listener.accept()
        # Closing with a linger time of 0 sends a reset (socket(7), SO_LINGER).
        accepted.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        accepted.close()
        with selectors.DefaultSelector() as selector:
            selector.register(plain, selectors.EVENT_READ)
            assert selector.select(timeout=5)

        descriptor = plain.fileno()

        # The exception keeps the socket from the garbage collector for now.
        with pytest.raises(OSError) as kept, plain:  # noqa: PT011 - which one differs by Python
            context.wrap_socket(plain, server_hostname="localhost")

        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        del kept


Damage = Callable[[TlsIdentity], TlsIdentity]


def missing(field: str) -> Damage:
    def damage(identity: TlsIdentity) -> TlsIdentity:
        return replace(identity, **{field: identity.key.parent / "absent"})

    return damage


def filled(field: str, data: bytes) -> Damage:
    def damage(identity: TlsIdentity) -> TlsIdentity:
        path: Path = getattr(identity, field)
        path.write_bytes(data)
        return identity

    return damage


def folder(identity: TlsIdentity) -> TlsIdentity:
    return replace(identity, certificate=identity.key.parent)


def open_to(mode: int) -> Damage:
    def damage(identity: TlsIdentity) -> TlsIdentity:
        identity.key.chmod(mode)
        return identity

    return damage


def encrypted(identity: TlsIdentity) -> TlsIdentity:
    key = serialization.load_pem_private_key(identity.key.read_bytes(), None)
    identity.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return identity


@pytest.mark.parametrize(
    ("damage", "complaint", "advice"),
    [
        (missing("certificate"), "absent does not exist", "freefloat certs issue"),
        (missing("key"), "absent does not exist", "check the path"),
        (missing("trust_anchors"), "absent does not exist", "check the path"),
        (folder, "cannot be read", "give it to the user"),
        (filled("certificate", b"no"), "no readable PEM", "freefloat certs issue"),
        (filled("trust_anchors", b""), "no readable PEM", "check the path"),
        (filled("key", b"no"), "no readable PEM private key", "check the path"),
        (filled("key", bytes(70_000)), "more than 65536 bytes", "check the path"),
        (open_to(0o640), "has mode 0640", "chmod 600"),
        (open_to(0o604), "has mode 0604", "chmod 600"),
        (encrypted, "is encrypted", "mode 0600"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(
    identity: TlsIdentity, damage: Damage, complaint: str, advice: str
) -> None:
    damaged = damage(identity)

    with pytest.raises(TlsSetupError) as caught:
        client_context(damaged, now=NOW)

    assert complaint in str(caught.value)
    assert advice in str(caught.value)
    assert not caught.value.retryable
    assert not caught.value.may_have_taken_effect


def test_a_key_of_another_certificate_is_named_with_both_files(
    pki: Pki, identity: TlsIdentity
) -> None:
    other = pki.issue("B" * 25 + "A")
    mixed = replace(identity, key=other.key)

    with pytest.raises(TlsSetupError) as caught:
        client_context(mixed, now=NOW)

    assert str(other.key) in str(caught.value)
    assert str(identity.certificate) in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(
    ("later", "complaint"),
    [
        (timedelta(days=2), "expired on 2026-11-22"),
        (-timedelta(hours=2), "is not valid before 2026-11-21T11:00"),
    ],
)
def test_dates_are_held_against_the_callers_clock(
    identity: TlsIdentity, later: timedelta, complaint: str
) -> None:
    with pytest.raises(TlsSetupError, match=complaint):
        client_context(identity, now=NOW + later)


def test_the_last_second_of_a_certificate_is_already_too_late(
    identity: TlsIdentity,
) -> None:
    client_context(identity, now=NOW + DAY - timedelta(seconds=1))
    with pytest.raises(TlsSetupError, match="expired"):
        client_context(identity, now=NOW + DAY)


def test_expired_trust_anchors_are_told_apart_from_our_own_certificate(
    pki: Pki,
) -> None:
    identity = pki.issue(NAME, ends=60 * DAY)
    # The issuing CA ends with its root here; shown alone, the leaf is still valid.
    leaf = identity.certificate.read_bytes().split(b"-----END CERTIFICATE-----")[0]
    identity.certificate.write_bytes(leaf + b"-----END CERTIFICATE-----\n")

    with pytest.raises(TlsSetupError, match="every trust anchor in"):
        client_context(identity, now=NOW + 31 * DAY)


def test_a_servers_certificate_is_not_used_as_a_clients_nor_the_reverse(
    pki: Pki, identity: TlsIdentity
) -> None:
    with pytest.raises(TlsSetupError, match="not for use as a TLS client"):
        client_context(pki.issue("broker", server=True), now=NOW)
    with pytest.raises(TlsSetupError, match="not for use as a TLS server"):
        server_context(identity, now=NOW)


def test_a_time_without_a_zone_is_refused(identity: TlsIdentity) -> None:
    with pytest.raises(TlsSetupError, match="has no time zone"):
        client_context(identity, now=NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "does not know the CA of our certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "our certificate has expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "our certificate is revoked"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a client certificate"),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "it is a server's, not a client's"),
        ("WRONG_VERSION_NUMBER", "does not speak TLS on this port"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "does not speak TLS 1.3"),
        ("SOMETHING_NEW", "SOMETHING_NEW"),
    ],
)
def test_what_openssl_reports_becomes_a_sentence(reason: str, sentence: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}] words (_ssl.c:1)")
    error.reason = reason

    assert sentence in explain_tls_error(error, host="broker.example")


def test_a_broker_that_closes_while_we_write_may_have_minded_our_certificate() -> None:
    # Its alert is lost if it closes at once, and OpenSSL then gives no reason.
    error = ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1)")
    error.reason = ""

    sentence = explain_tls_error(error, host="broker.example")

    assert sentence.startswith("the other side closed during the TLS handshake")
    assert "our certificate" in sentence
