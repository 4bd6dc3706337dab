"""Which certificates prove a vehicle's key in an evidence file (FF-EVI-03)."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocol.anchors import EvidenceAnchors
from protocol.codes import Code
from protocol.errors import AuthenticationError, DecodeError
from protocol.evidence import (
    build_evidence,
    verify_evidence,
)
from protocol.frame import parse_frame
from tests.bridge.car import REPORT
from tests.fuzz.exhibit import ANCHORS, signed, whole
from tests.protocol.court import MADE, Court
from tools.published_keys import CAR_A_NEXT_KEY, RECEIPT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable


class Notary:
    """An authority that certifies what no profile of ours allows."""

    def __init__(self, court: Court) -> None:
        self.court = court
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self.certify("root", self.root_key, "root", self.root_key)

    def certify(  # noqa: PLR0917 - as X.509 has it
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        begin: datetime = MADE,
        days: int = 7300,
        *,
        is_ca: bool | None = True,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
        )
        if is_ca is not None:
            constraints = x509.BasicConstraints(ca=is_ca, path_length=None)
            builder = builder.add_extension(constraints, critical=True)
        return builder.sign(issuer_key, hashes.SHA256())

    def exhibit(
        self,
        *,
        issuing: dict[str, object] | None = None,
        signing: dict[str, object] | None = None,
    ) -> tuple[bytes, EvidenceAnchors]:
        court = self.court
        certify: Callable[..., x509.Certificate] = self.certify
        middle = certify("ca", self.key, "root", self.root_key, **(issuing or {}))
        leaf = certify(
            str(court.car.id),
            CAR_A_NEXT_KEY.key.handle,  # type: ignore[attr-defined] # an Ed25519 key
            "ca",
            self.key,
            **({"is_ca": None} | (signing or {})),
        )
        court.car.key = CAR_A_NEXT_KEY.key
        exhibit = court.exhibit(
            court.car.event(REPORT),
            issuing_certificate=middle.public_bytes(Encoding.DER),
            signing_certificate=leaf.public_bytes(Encoding.DER),
        )
        anchors = replace(court.anchors, root_certificates=(self.root,))
        return build_evidence(exhibit), anchors


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def test_an_authority_issues_within_its_dates_and_its_certificate_may_have_ended(
    court: Court,
) -> None:
    """FF-EVI-03, FF-EVI-05: it ended before the rental, and had issued before that."""
    data, anchors = Notary(court).exhibit(issuing={"days": 1})
    assert verify_evidence(data, anchors).entries


@pytest.mark.parametrize(
    "parts",
    [
        {"issuing": {"is_ca": False}},
        {"issuing": {"is_ca": None}},
        {"issuing": {"begin": MADE - timedelta(days=9), "days": 2}},
        {"issuing": {"begin": MADE + timedelta(hours=1)}},
        {"signing": {"days": 0.5}},
        {"signing": {"begin": MADE + timedelta(days=2)}},
    ],
    ids=[
        "no authority",
        "says nothing of being one",
        "issued after its end",
        "issued before its begin",
        "the key's certificate had ended",
        "the key's certificate had not begun",
    ],
)
def test_certificates_that_did_not_hold_then_are_refused(
    court: Court, parts: dict[str, dict[str, object]]
) -> None:
    """FF-EVI-03, FF-EVI-05."""
    data, anchors = Notary(court).exhibit(**parts)
    with pytest.raises(AuthenticationError):
        verify_evidence(data, anchors)


P256_OID: Final = bytes.fromhex("06082a8648ce3d030107")
"""secp256r1, as a key's certificate names its curve (RFC 5480, 2.1.1.1)."""


def test_a_key_of_a_curve_that_nobody_knows_is_refused(court: Court) -> None:
    """FF-EVI-03: whoever holds the authority's key can certify anything."""
    notary = Notary(court)
    middle = notary.certify("ca", notary.key, "root", notary.root_key)
    leaf = notary.certify(
        str(court.car.id),
        ec.generate_private_key(ec.SECP256R1()),
        "ca",
        notary.key,
        is_ca=None,
    )
    unknown = leaf.tbs_certificate_bytes.replace(P256_OID, P256_OID[:-1] + b"\x7f")
    signature = notary.key.sign(unknown, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    body = unknown + algorithm + bytes([3, len(signature) + 1, 0]) + signature
    exhibit = court.exhibit(
        court.car.event(REPORT),
        issuing_certificate=middle.public_bytes(Encoding.DER),
        signing_certificate=b"\x30\x82" + len(body).to_bytes(2, "big") + body,
    )
    anchors = replace(court.anchors, root_certificates=(notary.root,))
    with pytest.raises(DecodeError, match="signing certificate"):
        verify_evidence(build_evidence(exhibit), anchors)


@pytest.mark.parametrize("label_ms", [253_402_300_800_000, 2**63, 2**64 - 1])
def test_a_receipt_labelled_after_the_last_year_of_a_certificate_is_refused(
    label_ms: int,
) -> None:
    # FF-EVI-05, K13. Found by the fuzzer: the fleet's own key may say anything.
    exhibit = whole()
    receipt = parse_frame(exhibit.receipt)
    header = replace(receipt.header, wall_ms=label_ms)
    late = signed(header, receipt.payload, RECEIPT_KEY.key)

    with pytest.raises(AuthenticationError) as refused:
        verify_evidence(build_evidence(replace(exhibit, receipt=late)), ANCHORS)

    assert refused.value.code is Code.KEY_EXPIRED
