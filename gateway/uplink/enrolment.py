"""What a car and its enrolment service say to each other, and the car's own checks.

The attacker considered has the enrolment service's place without its key, or the
service's key and not the CA's: what comes is believed only as far as it ends in a root
that the car holds already. A new root is taken when an old one signed it
("NewWithOld", RFC 4210 4.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.enrolment import is_issued_by, require_name
from protocol.errors import ProtocolError
from protocol.identity import VehicleId
from protocol.keyfile import raw_public_key
from transport.tls import TlsIdentity

ANCHORS_LIMIT: Final = 8
"""Trust anchors in one answer: two in a rollover, and room."""


class EnrolmentError(Exception):
    """No new certificate; the old one stands and nothing was written."""

    may_have_taken_effect = False
    """The service may have signed one that never came: it is of use to nobody."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retryable: bool = True,
        retry_after_s: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        """The service's word, or ``tls``, ``unreachable`` or ``bad_answer``."""
        self.retryable = retryable
        """Whether it may succeed without anybody changing anything."""
        self.retry_after_s = retry_after_s
        """Seconds that the service asks to wait at least."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An answer with a certificate, all in DER."""

    certificate: bytes
    """The leaf."""
    chain: tuple[bytes, ...]
    """Its issuing CA, and what is between that and a root."""
    anchors: tuple[bytes, ...]
    """The roots that the fleet has from now on."""
    links: tuple[bytes, ...]
    """New roots, signed by old ones."""


class Enrolment(Protocol):
    """The enrolment service; its calls block for as long as a network may take."""

    def abort(self) -> None:
        """Break a call that is under way in another thread, and refuse further ones."""

    def reenroll(self, tls: TlsIdentity, request: bytes) -> Issued:
        """Ask with the certificate that we have.

        Raises:
            EnrolmentError: there is none.
            TlsSetupError: our own files cannot be used.
        """

    def recertify(
        self, tls: TlsIdentity, vehicle_id: VehicleId, rotations: Sequence[bytes], /
    ) -> bytes:
        """Show the rotations since the key that the service knows.

        Args:
            tls: whose anchors judge the service; no certificate is shown.
            vehicle_id: who we are.
            rotations: KEY_ROTATED frames, oldest first. The service may know some of
                them already.

        Returns:
            The certificate of the present signing key, in DER.

        Raises:
            EnrolmentError, TlsSetupError: as for `reenroll`.
        """

    def grace_nonce(self, tls: TlsIdentity, vehicle_id: VehicleId, /) -> bytes:
        """Return the service's nonce; asked without a certificate of ours.

        Raises:
            EnrolmentError, TlsSetupError: as for `reenroll`.
        """

    def grace(
        self,
        tls: TlsIdentity,
        vehicle_id: VehicleId,
        request: bytes,
        /,
        *,
        nonce: bytes,
        signature: bytes,
    ) -> Issued:
        """Ask by a signature of the car's signing key.

        Raises:
            EnrolmentError, TlsSetupError: as for `reenroll`.
        """


def check_recertified(certificate: bytes, *, vehicle_id: VehicleId, key: bytes) -> None:
    """Return if a certificate binds our new signing key to us.

    Args:
        certificate: DER.
        vehicle_id: who we are.
        key: the raw key that our last rotation names.

    Raises:
        EnrolmentError: it binds another key or name.
    """
    leaf = _load(certificate)
    try:
        require_name(leaf, vehicle_id, name="signing")
        certified = raw_public_key(leaf.public_key(), name="signing certificate")
    except ProtocolError as error:
        raise _bad(str(error)) from None
    if certified != key:
        raise _bad("the signing certificate is of another key than the new one")


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """A certificate that was checked, as PEM files."""

    chain: bytes
    """Leaf, then its issuing CA."""
    anchors: bytes
    """What the car trusts from now on."""
    expires: datetime
    """When the leaf ends."""
    ignored_anchors: int
    """Roots in the answer that no held root vouches for."""


def check_issued(
    issued: Issued,
    *,
    vehicle_id: VehicleId,
    key: ec.EllipticCurvePublicKey,
    held_anchors: Sequence[x509.Certificate],
    floor: datetime,
) -> NewIdentity:
    """Return what of an answer can be believed.

    Args:
        issued: the answer.
        vehicle_id: who we are.
        key: what we asked to be certified.
        held_anchors: the roots that the car trusts now.
        floor: a time that has certainly passed.

    Raises:
        EnrolmentError: the certificate is not ours or ends in no root that we trust.
    """
    leaf = _load(issued.certificate)
    chain = [_load(one) for one in issued.chain]
    anchors, ignored = _believed_anchors(issued, held_anchors)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [str(vehicle_id)]:
        raise _bad("the new certificate is of another name than this car's")
    if leaf.public_key() != key:
        raise _bad("the new certificate is of another key than the one asked for")
    if not _is_for_clients(leaf):
        raise _bad("the new certificate is not for use as a TLS client")
    if floor >= leaf.not_valid_after_utc:
        raise _bad(
            f"the new certificate ended on {leaf.not_valid_after_utc.isoformat()}, "
            f"and {floor.isoformat()} has certainly passed"
        )
    issuers = [*chain, *anchors]
    for subject in (leaf, *chain):
        if not any(is_issued_by(subject, issuer) for issuer in issuers):
            raise _bad("the new certificate ends in no root that this car trusts")
    if not any(is_issued_by((leaf, *chain)[-1], anchor) for anchor in anchors):
        raise _bad("the new certificate ends in no root that this car trusts")
    return NewIdentity(
        chain=_pem(leaf, *chain),
        anchors=_pem(*anchors),
        expires=leaf.not_valid_after_utc,
        ignored_anchors=ignored,
    )


def _believed_anchors(
    issued: Issued, held: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], int]:
    """Return the new set of roots, and how many of the answer's had no voucher."""
    if not issued.anchors:
        return list(held), 0
    if len(issued.anchors) > ANCHORS_LIMIT:
        raise _bad(f"{len(issued.anchors)} roots in one answer, not {ANCHORS_LIMIT}")
    links = [_load(one) for one in issued.links]
    vouched = [
        (link.subject, link.public_key())
        for link in links
        if _is_root_like(link) and any(is_issued_by(link, a) for a in held)
    ]
    believed, ignored = [], 0
    for anchor in map(_load, issued.anchors):
        if anchor in held or (anchor.subject, anchor.public_key()) in vouched:
            believed.append(anchor)
        else:
            ignored += 1
    # Without a root that we know nothing could be believed any more, so those stay.
    return (believed, ignored) if believed else (list(held), ignored)


def _is_root_like(link: x509.Certificate) -> bool:
    """Whether CAs may stand below it: an issuing CA must not make itself a root."""
    try:
        basic = link.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return basic.ca and basic.path_length != 0


def _is_for_clients(leaf: x509.Certificate) -> bool:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage.value


def _load(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("something in the answer is no certificate") from None
    return certificate


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _bad(detail: str) -> EnrolmentError:
    return EnrolmentError(
        f"the enrolment service's answer is refused: {detail}; the fleet's office must "
        "look at its CA",
        code="bad_answer",
        retryable=False,
    )
