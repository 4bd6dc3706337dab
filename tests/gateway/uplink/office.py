"""The fleet's enrolment service as a car sees it, without a network."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.uplink.enrolment import EnrolmentError, Issued
from protocol.enrolment import grace_message
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.rotation import follow_rotations
from tests.broker.pki import DAY, HOUR, Pki
from transport.tls import TlsIdentity, read_certificates

LIFE = 90 * DAY


class Office:
    """Implements `gateway.uplink.enrolment.Enrolment` by a CA in memory."""

    def __init__(
        self,
        pki: Pki,
        now: Callable[[], datetime],
        *,
        fleet_id: bytes,
        device_key: VerifyKey,
    ) -> None:
        self.pki = pki
        self.now = now
        self.fleet_id = fleet_id
        self.device_key = device_key
        self.calls: list[str] = []
        self.failure: EnrolmentError | None = None
        """Raised instead of an answer."""
        self.fails_at: dict[str, EnrolmentError] = {}
        """Raised instead of an answer to one call, by its name."""
        self.certifies: VerifyKey | None = None
        """What is certified instead of the key that a vehicle rotated to."""
        self.alter: Callable[[Issued], Issued] = lambda issued: issued
        """What somebody makes of an answer on its way."""
        self.life: timedelta = LIFE

    def abort(self) -> None:
        self.calls.append("abort")

    def reenroll(self, tls: TlsIdentity, request: bytes) -> Issued:
        self._called("reenroll")
        shown = read_certificates(tls.certificate)[0]
        if self.now() >= shown.not_valid_after_utc:
            raise EnrolmentError("our certificate has expired", code="tls")
        assert x509.load_der_x509_csr(request).public_key() != shown.public_key()
        return self._issue(request)

    def certify(self, what: str, request: bytes) -> Issued:
        """Sign a request that was made over mutual TLS, which was checked before."""
        self._called(what)
        return self._issue(request)

    def recertify(
        self, _tls: TlsIdentity, vehicle_id: VehicleId, rotations: Sequence[bytes]
    ) -> bytes:
        self._called("recertify")
        handovers = follow_rotations(
            rotations, self.device_key, fleet_id=self.fleet_id, vehicle_id=vehicle_id
        )
        self.device_key = handovers[-1].new_key
        certified = self.pki.bind(
            (self.certifies or self.device_key).handle, str(vehicle_id)
        )
        return certified.public_bytes(Encoding.DER)

    def grace_nonce(self, _tls: TlsIdentity, _vehicle_id: VehicleId) -> bytes:
        self._called("nonce")
        return b"n" * 32

    def grace(
        self,
        _tls: TlsIdentity,
        vehicle_id: VehicleId,
        request: bytes,
        *,
        nonce: bytes,
        signature: bytes,
    ) -> Issued:
        self._called("grace")
        message = grace_message(self.fleet_id, vehicle_id, b"n" * 32, request)
        assert nonce == b"n" * 32
        self.device_key.verify(signature, message)
        return self._issue(request)

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.failure is not None:
            raise self.failure
        if what in self.fails_at:
            raise self.fails_at[what]

    def _issue(self, request: bytes) -> Issued:
        now = self.now().replace(microsecond=0)
        leaf = self.pki.certify(request, starts=now - HOUR, ends=now + self.life)
        return self.alter(
            Issued(
                certificate=leaf.public_bytes(Encoding.DER),
                chain=(self.pki.issuing.public_bytes(Encoding.DER),),
                anchors=(self.pki.root.public_bytes(Encoding.DER),),
                links=(),
            )
        )
