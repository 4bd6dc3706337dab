"""What a car believes of an enrolment service: its answer, and new roots (row 34)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.uplink.enrolment import (
    ANCHORS_LIMIT,
    EnrolmentError,
    Issued,
    NewIdentity,
    check_issued,
)
from tests.broker.pki import DAY, HOUR, Pki, clock
from tests.gateway.fleet_end import VEHICLE

KEY = ec.generate_private_key(ec.SECP256R1())


def request_of(key: ec.EllipticCurvePrivateKey, name: str = str(VEHICLE)) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


class Desk:
    """A CA, and a car that holds its root."""

    def __init__(self, directory: Path) -> None:
        self.now: datetime = clock().replace(microsecond=0)
        self.pki = Pki(directory / "pki", now=self.now)
        self.other = Pki(directory / "other", now=self.now)

    def issued(
        self,
        *,
        by: Pki | None = None,
        key: ec.EllipticCurvePrivateKey = KEY,
        name: str = str(VEHICLE),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        ends: timedelta = DAY,
    ) -> Issued:
        pki = by or self.pki
        leaf = pki.certify(
            request_of(key, name),
            starts=self.now - HOUR,
            ends=self.now + ends,
            usage=usage,
        )
        return Issued(der(leaf), (der(pki.issuing),), (der(pki.root),), ())

    def check(self, issued: Issued) -> NewIdentity:
        return check_issued(
            issued,
            vehicle_id=VEHICLE,
            key=KEY.public_key(),
            held_anchors=[self.pki.root],
            floor=self.now,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def roots_in(identity: NewIdentity) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(identity.anchors)


def test_an_answer_of_the_fleets_own_ca_is_taken(desk: Desk) -> None:
    new = desk.check(desk.issued())

    assert len(x509.load_pem_x509_certificates(new.chain)) == 2
    assert roots_in(new) == [desk.pki.root]
    assert new.expires == desk.now + DAY
    assert not new.ignored_anchors


WRONG: list[tuple[Callable[[Desk], Issued], str]] = [
    (lambda d: d.issued(name="B" * 25 + "A"), "of another name"),
    (lambda d: d.issued(key=ec.generate_private_key(ec.SECP256R1())), "another key"),
    (lambda d: d.issued(usage=ExtendedKeyUsageOID.SERVER_AUTH), "as a TLS client"),
    (lambda d: d.issued(ends=timedelta(0)), "has certainly passed"),
    (lambda d: d.issued(by=d.other), "ends in no root"),
    (lambda d: replace(d.issued(), chain=()), "ends in no root"),
    (lambda d: replace(d.issued(), chain=(der(d.other.issuing),)), "ends in no root"),
    (lambda d: replace(d.issued(), certificate=b"0"), "no certificate"),
    (lambda d: replace(d.issued(), anchors=(b"",)), "no certificate"),
    (
        lambda d: replace(d.issued(), anchors=(der(d.pki.root),) * (ANCHORS_LIMIT + 1)),
        "9 roots",
    ),
]


@pytest.mark.parametrize(("make", "complaint"), WRONG)
def test_an_answer_that_is_not_for_this_car_or_not_of_its_fleet_is_refused(
    desk: Desk, make: Callable[[Desk], Issued], complaint: str
) -> None:
    with pytest.raises(EnrolmentError, match=complaint) as caught:
        desk.check(make(desk))

    assert not caught.value.retryable
    assert caught.value.code == "bad_answer"


def test_a_new_root_is_taken_when_a_held_one_signed_it(desk: Desk) -> None:
    # FF-ENR-22.
    # Row 34: root rollover, old and new side by side, then the new one alone.
    old, new = der(desk.pki.root), der(desk.other.root)
    link = der(desk.pki.vouch_for(desk.other.root))

    both = desk.check(replace(desk.issued(), anchors=(old, new), links=(link,)))
    alone = desk.check(
        replace(desk.issued(by=desk.other), anchors=(new,), links=(link,))
    )

    assert roots_in(both) == [desk.pki.root, desk.other.root]
    assert roots_in(alone) == [desk.other.root]


def test_a_new_root_that_nobody_vouches_for_is_left_out_and_counted(
    desk: Desk,
) -> None:
    # FF-ENR-22.
    stranger = der(desk.other.vouch_for(desk.other.root))
    new = desk.check(
        replace(
            desk.issued(),
            anchors=(der(desk.pki.root), der(desk.other.root)),
            links=(stranger,),
        )
    )

    assert roots_in(new) == [desk.pki.root]
    assert new.ignored_anchors == 1


def test_an_answer_without_a_root_that_is_believed_keeps_the_held_ones(
    desk: Desk,
) -> None:
    assert roots_in(desk.check(replace(desk.issued(), anchors=()))) == [desk.pki.root]
    kept = desk.check(replace(desk.issued(), anchors=(der(desk.other.root),)))

    assert roots_in(kept) == [desk.pki.root]


def test_an_issuing_ca_cannot_make_itself_a_root(desk: Desk) -> None:
    # FF-ENR-22.
    # Its key is online; the link would be its own certificate.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstart")])
    key = ec.generate_private_key(ec.SECP256R1())

    def certificate(
        issuer: x509.Name, by: ec.EllipticCurvePrivateKey, length: int | None
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(desk.now - HOUR)
            .not_valid_after(desk.now + DAY)
        )
        if length is not None:
            builder = builder.add_extension(x509.BasicConstraints(True, length), True)
        return builder.sign(by, hashes.SHA256())

    for length in (0, None):
        link = certificate(desk.pki.root.subject, desk.pki._root_key, length)
        upstart = certificate(name, key, 0)
        new = desk.check(
            replace(
                desk.issued(),
                anchors=(der(desk.pki.root), der(upstart)),
                links=(der(link),),
            )
        )

        assert new.ignored_anchors == 1
