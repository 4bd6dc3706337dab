"""The authority's decisions about a vehicle that asks: enrolment and renewal.

No HTTP and no clock in here: requests are values, `now` is an argument. What the desk
decides it decides under the registry's lock, so that a revocation and a renewal at the
same instant have an order, and never sign for a vehicle that was withdrawn before.

The attackers considered: somebody with a claim from a dustbin (used, over, or of
another vehicle), somebody who enrols another device's keys, a thief of a car's TLS key
(the vehicle is revoked: no path gives anything), somebody who records a renewal and
sends it again (single-use nonces), and a guesser (equal answers, an audit line each).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs.audit_log import AuditLog, Severity
from certs.authority import Authority, common_name
from certs.books import Books, Voucher, spki_digest
from certs.challenge import Challenges
from certs.enrolment import Claim, Enrolled, enrol
from certs.errors import ClaimError, DuplicateError, ForkedError, RequestError
from certs.files import exclusive, publish_new
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from certs.recertification import Recertified, recertify
from certs.refusal import Reason, RefusedError, claim_invalid, not_proved
from certs.renewal_rules import DAILY_LIMIT, DAY, may_reenroll, may_use_grace
from certs.voucher import claim_hash
from protocol.enrolment import VehicleRecord, grace_message
from protocol.errors import ProtocolError
from protocol.fleet import FleetPart, build_trust_roots
from protocol.identity import VEHICLE_TEXT, VehicleId, key_id

LOCK_WAIT_S: Final = 5.0
"""How long the desk waits for an office command that holds the registry."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a peer needs to believe this fleet's certificates."""

    anchors: tuple[x509.Certificate, ...]
    """Roots to trust from now on."""
    chain: tuple[x509.Certificate, ...]
    """Issuing CA, without leaf and root."""
    links: tuple[x509.Certificate, ...]
    """New roots signed by old ones, during and after a change of roots."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A certificate, and what belongs to it."""

    certificate: x509.Certificate
    """The new leaf."""
    around: Anchors
    """Its chain, and the roots."""
    record: bytes = b""
    """The registry file; of an enrolment only."""
    trust_roots: bytes = b""
    """``trust-roots.json``; of an enrolment only."""
    trust_bundle: bytes = b""
    """The signed trust bundle; of an enrolment only."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as far as the connection says."""

    peer: str
    """Address, for the audit file."""
    certificate: x509.Certificate | None = None
    """Client certificate that TLS verified; None if none was shown."""


class EnrolmentDesk:
    """Enrols and renews the vehicles of one fleet."""

    def __init__(
        self,
        fleet: FleetDirectory,
        books: Books,
        log: AuditLog,
        authority: Authority,
    ) -> None:
        self._fleet = fleet
        self._books = books
        self._log = log
        self._authority = authority
        self._challenges = Challenges()

    def anchors(self) -> Anchors:
        """Return the roots, the chain and the links of this moment.

        Raises:
            FleetError: a file is missing or damaged.
        """
        return Anchors(
            tuple(self._fleet.certificates(FleetPart.TRUST_ANCHORS)),
            # Its own: after a change of the key it may be older than the directory.
            (self._authority.certificate,),
            tuple(self._fleet.root_links()),
        )

    # --- enrolment ------------------------------------------------------------------

    def enroll(
        self, text: str, claim: Claim, *, serial: str = "", asker: Asker, now: datetime
    ) -> Answer:
        """Enrol a vehicle with a one-time claim; again for the same keys if asked.

        Args:
            text: the one-time claim.
            claim: keys and proofs of possession.
            serial: the device's serial number, if it named one.
            asker: who asks.
            now: with a time zone.

        Raises:
            RefusedError: nothing was signed.
            BusyError: the registry is held by another process; try again.
            FleetError, OSError: a part of the fleet cannot be read or written.
        """
        require_request(claim.tls_request, claim.vehicle_id)
        voucher = self._voucher(text, claim, serial, asker=asker, now=now)
        if self._fleet.is_revoked(claim.vehicle_id):
            raise self._revoked(claim.vehicle_id, asker, now=now)
        with self._lock():
            answer = self._again(voucher, claim)
            if answer is not None:
                self._tell(Severity.NOTE, "enrolled_again", claim, asker, now=now)
                return answer
            enrolled = self._fleet.enrolled()
            return self._register(voucher, claim, enrolled, asker=asker, now=now)

    def _voucher(
        self, text: str, claim: Claim, serial: str, *, asker: Asker, now: datetime
    ) -> Voucher:
        voucher = self._books.find_voucher(claim_hash(text))
        event = ""
        if voucher is None:
            event = "claim_unknown"
        elif voucher.vehicle_id != claim.vehicle_id:
            event = "claim_of_another_vehicle"
        elif voucher.serial != serial:
            event = "claim_of_another_device"
        elif voucher.expires <= now:
            event = "claim_expired"
        elif voucher.used is not None and voucher.key_id != key_id(claim.signing_key):
            event = "claim_reused"
        if voucher is None or event:
            self._tell(Severity.ALARM, event, claim, asker, now=now)
            raise claim_invalid()
        return voucher

    def _again(self, voucher: Voucher, claim: Claim) -> Answer | None:
        """Answer the very device again whose first answer was lost."""
        if voucher.used is None:
            return None
        record = self._record(claim.vehicle_id)
        issued = self._books.newest(
            claim.vehicle_id, spki=spki_digest(claim.tls_request.public_key())
        )
        if (
            record is None
            or issued is None
            or record.signing_key.raw != claim.signing_key
            or record.sealing_key.public_bytes_raw() != claim.sealing_key
        ):
            return None
        path = self._fleet.record_path(claim.vehicle_id)
        return self._enrolled(issued.certificate, path.read_bytes())

    def _register(
        self,
        voucher: Voucher,
        claim: Claim,
        enrolled: Enrolled,
        *,
        asker: Asker,
        now: datetime,
    ) -> Answer:
        try:
            self._require_own_key(claim.vehicle_id, claim.tls_request, asker, now=now)
            enrolment = enrol(
                claim,
                self._authority,
                enrolled,
                fleet_id=self._fleet.fleet.fleet_id,
                now=now,
            )
        except DuplicateError as error:
            self._tell(
                Severity.ALARM, "duplicate", claim, asker, now=now, detail=str(error)
            )
            raise RefusedError(
                Reason.REGISTERED_ALREADY, str(error), error.advice
            ) from None
        except (ClaimError, RequestError) as error:
            self._tell(
                Severity.ALARM, "not_proved", claim, asker, now=now, detail=str(error)
            )
            raise RefusedError(
                Reason.REQUEST_REFUSED, str(error), error.advice
            ) from None
        # The claim first: a crash behind it costs this device a second request, never
        # a second device the name.
        if not self._books.use_voucher(
            voucher.hash, key_id=key_id(claim.signing_key), now=now
        ):
            raise claim_invalid()
        self._tell(Severity.NOTE, "enrolled", claim, asker, now=now)
        self._books.add_issued(
            claim.vehicle_id, enrolment.tls_certificate, how="enroll", now=now
        )
        publish_new(self._fleet.record_path(claim.vehicle_id), enrolment.record)
        return self._enrolled(enrolment.tls_certificate, enrolment.record)

    def _enrolled(self, certificate: x509.Certificate, record: bytes) -> Answer:
        return Answer(
            certificate,
            self.anchors(),
            record=record,
            trust_roots=build_trust_roots(self._fleet.trust_roots()),
            trust_bundle=self._fleet.trust_bundle(),
        )

    # --- renewal --------------------------------------------------------------------

    def reenroll(
        self, request: x509.CertificateSigningRequest, *, asker: Asker, now: datetime
    ) -> Answer:
        """Renew by the present certificate, which TLS has verified.

        Raises:
            RefusedError: nothing was signed.
            BusyError, FleetError, OSError: as `enroll`.
        """
        present = asker.certificate
        if present is None:
            raise RefusedError(
                Reason.CERTIFICATE_REQUIRED,
                "a renewal needs the vehicle's present certificate in TLS",
                "without a valid one use the grace path",
            )
        name = common_name(present)
        if not VEHICLE_TEXT.fullmatch(name):
            self._log.write(
                Severity.ALARM,
                "no_vehicle",
                now=now,
                peer=asker.peer,
                detail=f"certificate of {name[:40]!r} asked for a vehicle's",
            )
            raise RefusedError(
                Reason.NOT_REGISTERED, "the certificate shown is no vehicle's"
            )
        vehicle_id = VehicleId.from_text(name)
        with self._lock():
            self._require_registered(vehicle_id, asker, now=now)
            begin, end = present.not_valid_before_utc, present.not_valid_after_utc
            if not may_reenroll(begin, end, now=now):
                raise RefusedError(
                    Reason.CERTIFICATE_REQUIRED,
                    f"the certificate shown is valid from {begin:%Y-%m-%d %H:%M} to "
                    f"{end:%Y-%m-%d %H:%M}, not now, {now:%Y-%m-%d %H:%M}",
                    "use the grace path",
                )
            if request.public_key() == present.public_key():
                raise RefusedError(
                    Reason.KEY_REUSED,
                    "the request is for the key of the present certificate",
                    "make a new TLS key for each certificate",
                )
            return self._renew(vehicle_id, request, "reenroll", asker, now=now)

    def give_nonce(self, vehicle_id: VehicleId, *, now: datetime) -> bytes:
        """Return a nonce for the grace path; says nothing about the registry."""
        return self._challenges.give(vehicle_id, now=now)

    def grace(
        self,
        vehicle_id: VehicleId,
        request: x509.CertificateSigningRequest,
        *,
        request_der: bytes,
        nonce: bytes,
        signature: bytes,
        asker: Asker,
        now: datetime,
    ) -> Answer:
        """Renew by the vehicle's signing key, within the grace period.

        Raises:
            RefusedError: nothing was signed.
            BusyError, FleetError, OSError: as `enroll`.
        """
        if not self._challenges.take(nonce, vehicle_id, now=now):
            raise RefusedError(
                Reason.NONCE_INVALID,
                "the nonce is over, used, or was given for another vehicle",
                "ask for a new nonce and sign that one",
            )
        with self._lock():
            record = self._record(vehicle_id) or self._fleet.revoked_record(vehicle_id)
            message = grace_message(
                self._fleet.fleet.fleet_id, vehicle_id, nonce, request_der
            )
            try:
                if record is None:
                    raise not_proved()
                record.present_key.verify(signature, message)
            except (ProtocolError, RefusedError):
                self._log.write(
                    Severity.ALARM,
                    "grace_not_proved",
                    now=now,
                    vehicle_id=str(vehicle_id),
                    peer=asker.peer,
                )
                raise not_proved() from None
            self._require_registered(vehicle_id, asker, now=now)
            newest = self._books.newest(vehicle_id)
            if not may_use_grace(
                None if newest is None else newest.end,
                self._books.grace_until(vehicle_id),
                now=now,
            ):
                self._log.write(
                    Severity.ALARM,
                    "grace_over",
                    now=now,
                    vehicle_id=str(vehicle_id),
                    peer=asker.peer,
                )
                raise RefusedError(
                    Reason.GRACE_OVER,
                    "the vehicle's last certificate ended too long ago",
                    "after looking at the car: freefloat certs grace FLEET "
                    f"{vehicle_id}",
                )
            return self._renew(vehicle_id, request, "grace", asker, now=now)

    def recertify(
        self,
        vehicle_id: VehicleId,
        rotations: Sequence[bytes],
        *,
        asker: Asker,
        now: datetime,
    ) -> Recertified:
        """Certify the signing key that a vehicle rotated to.

        Args:
            vehicle_id: who asks.
            rotations: KEY_ROTATED frames, oldest first. They prove themselves, so no
                client certificate is asked for: a garaged car shows them too.
            asker: who asks.
            now: with a time zone.

        Raises:
            RefusedError: nothing was signed.
            BusyError, FleetError, OSError: as `enroll`.
        """
        with self._lock():
            if self._record(vehicle_id) is None and not self._fleet.is_revoked(
                vehicle_id
            ):
                raise not_proved()
            self._require_registered(vehicle_id, asker, now=now)
            try:
                done = recertify(
                    self._fleet,
                    self._authority,
                    vehicle_id,
                    rotations,
                    enrolled=self._fleet.enrolled(),
                    now=now,
                )
            except (ClaimError, DuplicateError) as error:
                forked = isinstance(error, ForkedError)
                self._log.write(
                    Severity.ALARM,
                    "rotation_forked" if forked else "rotation_not_proved",
                    now=now,
                    vehicle_id=str(vehicle_id),
                    peer=asker.peer,
                    detail=str(error),
                )
                raise not_proved() from None
            if done.is_new:
                self._log.write(
                    Severity.NOTE,
                    "recertified",
                    now=now,
                    vehicle_id=str(vehicle_id),
                    peer=asker.peer,
                )
            return done

    def _renew(
        self,
        vehicle_id: VehicleId,
        request: x509.CertificateSigningRequest,
        how: str,
        asker: Asker,
        *,
        now: datetime,
    ) -> Answer:
        key = require_request(request, vehicle_id)
        try:
            self._require_own_key(vehicle_id, request, asker, now=now)
        except DuplicateError as error:
            raise RefusedError(
                Reason.REQUEST_REFUSED, str(error), error.advice
            ) from None
        known = self._books.newest(vehicle_id, spki=spki_digest(key))
        if known is not None and known.end > now:
            # The same request again: its answer was lost.
            return Answer(known.certificate, self.anchors())
        if self._books.count_since(vehicle_id, now - DAY) >= DAILY_LIMIT:
            raise RefusedError(
                Reason.TOO_OFTEN,
                f"the vehicle was given {DAILY_LIMIT} certificates in 24 hours",
                "look at why it asks again and again",
                retry_after_s=3600,
            )
        certificate = self._authority.issue(
            Kind.VEHICLE_TLS, str(vehicle_id), key, now=now
        )
        self._log.write(
            Severity.NOTE,
            "renewed",
            now=now,
            vehicle_id=str(vehicle_id),
            peer=asker.peer,
            detail=f"{how}, until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}",
        )
        self._books.add_issued(vehicle_id, certificate, how=how, now=now)
        return Answer(certificate, self.anchors())

    # --- shared ---------------------------------------------------------------------

    def _require_registered(
        self, vehicle_id: VehicleId, asker: Asker, *, now: datetime
    ) -> None:
        if self._fleet.is_revoked(vehicle_id):
            raise self._revoked(vehicle_id, asker, now=now)
        if not self._fleet.record_path(vehicle_id).exists():
            self._log.write(
                Severity.ALARM,
                "not_registered",
                now=now,
                vehicle_id=str(vehicle_id),
                peer=asker.peer,
            )
            raise RefusedError(
                Reason.NOT_REGISTERED,
                "the vehicle is not in this fleet's registry",
                "bring its record back from a backup, or enrol it with a new claim",
            )

    def _revoked(
        self, vehicle_id: VehicleId, asker: Asker, *, now: datetime
    ) -> RefusedError:
        self._log.write(
            Severity.ALARM,
            "revoked_asks",
            now=now,
            vehicle_id=str(vehicle_id),
            peer=asker.peer,
        )
        return RefusedError(
            Reason.REVOKED,
            "the vehicle was withdrawn from the fleet",
            "if it is back, enrol it under a new id with a new claim",
        )

    def _require_own_key(
        self,
        vehicle_id: VehicleId,
        request: x509.CertificateSigningRequest,
        asker: Asker,
        *,
        now: datetime,
    ) -> None:
        """Return if no other vehicle was ever certified for this TLS key (K1)."""
        others = self._books.owners(spki_digest(request.public_key())) - {vehicle_id}
        if not others:
            return
        other = min(others)
        self._log.write(
            Severity.ALARM,
            "duplicate_tls_key",
            now=now,
            vehicle_id=str(vehicle_id),
            peer=asker.peer,
            detail=f"the key was certified for {other}",
        )
        raise DuplicateError(
            "the TLS key of the request belongs to another vehicle",
            "every vehicle makes keys of its own; a copied key may be an attack",
        )

    def _record(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        try:
            return self._fleet.vehicle_record(vehicle_id)
        except FileNotFoundError:
            return None

    def _lock(self) -> AbstractContextManager[None]:
        """Hold the registry alone."""
        return exclusive(self._fleet.path / FleetPart.REGISTRY, wait_s=LOCK_WAIT_S)

    def _tell(
        self,
        severity: Severity,
        event: str,
        claim: Claim,
        asker: Asker,
        *,
        now: datetime,
        detail: str = "",
    ) -> None:
        self._log.write(
            severity,
            event,
            now=now,
            vehicle_id=str(claim.vehicle_id),
            peer=asker.peer,
            detail=detail,
        )


def require_request(
    request: x509.CertificateSigningRequest, vehicle_id: VehicleId
) -> ec.EllipticCurvePublicKey:
    """Return a request's key if the request is this vehicle's, by its own P-256 key.

    Raises:
        RefusedError: another name, another kind of key, or its signature is wrong.
    """
    try:
        key = request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if (
            isinstance(key, ec.EllipticCurvePublicKey)
            and isinstance(key.curve, ec.SECP256R1)
            and request.is_signature_valid
            and [name.value for name in names] == [str(vehicle_id)]
        ):
            return key
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise RefusedError(
        Reason.REQUEST_REFUSED,
        "the TLS request is not signed by its own P-256 key for this very vehicle",
        "make a new P-256 key and a PKCS#10 request with CN = vehicle id",
    )
