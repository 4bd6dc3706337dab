"""Keeps the car's TLS certificate young, beside everything else and in nobody's way.

Usually it asks over mutual TLS before two thirds of the life (`renewal_plan`). A car
that stood in a garage until its certificate had expired cannot open such a connection:
it authenticates the server alone and proves itself by its signing key instead (the
"grace path"). Whether it has expired is told by the trusted floor, or by a server that
refuses it; the wall clock is not asked.

After a rotation of the signing key it shows the service the entries that prove it, so
that the service takes the new key, and then renews at once. The order leaves no gap:
the certificate that the car has goes on counting, and the entries are kept until both
are done.

Nothing here fails the car: doors, rentals and ledger go on without a link, so every
error is said once with what to do, and tried again (I-19, K9).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from gateway.ports import Clock, KeyHolder, TrustedTime, Worker
from gateway.uplink.enrolment import (
    Enrolment,
    EnrolmentError,
    NewIdentity,
    check_issued,
    check_recertified,
)
from gateway.uplink.renewal_plan import RenewalPlan, plan_renewal
from gateway.uplink.tls_store import TlsStore
from protocol.enrolment import grace_message
from protocol.identity import VehicleId
from protocol.rotation import rotated_key
from transport.backoff import Backoff
from transport.errors import TlsSetupError
from transport.tls import read_certificates

RECHECK_MS: Final = 3_600_000
"""The floor jumps when the fleet tells the time, so the plan is looked at hourly."""

RENEWAL_BACKOFF: Final = Backoff(initial_s=120.0, factor=2.0, maximum_s=6 * 3600.0)
"""A CA that comes back after a day is not met by a whole fleet at once. The plan bounds
the waits too: a short life leaves less time."""

SHORTEST_LIMIT_S: Final = 1.0
"""Least bound that the plan may set: a certificate of minutes causes no busy loop."""

_LONGEST: Final = 1_000
"""Failures after which the longest wait holds: when asking again changes nothing."""

_ASK_BY_SIGNATURE: Final = frozenset({"tls", "certificate_required"})
"""What a service says, or does, that cannot take our certificate."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks for a certificate."""

    vehicle_id: VehicleId
    """This car."""
    fleet_id: bytes
    """16 bytes."""


class Renewal:
    """One car's renewal; `run` is its life.

    Args:
        applicant: who asks.
        store: the car's TLS identities.
        service: whom to ask; None if the settings name nobody, which is said.
        time: what time it is at least.
        clock: for waiting.
        random: returns a number within 0 and 1, for the jitter of a back-off.
        worker: a thread of its own: a call takes as long as a network does.
        backoff: waits after failures.
    """

    def __init__(
        self,
        applicant: Applicant,
        *,
        store: TlsStore,
        service: Enrolment | None,
        time: TrustedTime,
        clock: Clock,
        random: Callable[[], float],
        worker: Worker,
        backoff: Backoff = RENEWAL_BACKOFF,
    ) -> None:
        self._applicant = applicant
        self._store = store
        self._service = service
        self._time = time
        self._clock = clock
        self._random = random
        self._worker = worker
        self._backoff = backoff
        self._log = logging.getLogger(f"{__name__}.{applicant.vehicle_id.short}")
        self._failures = 0
        self._is_refused = False
        self._wake = asyncio.Event()
        store.on_refused = self._on_refused
        store.on_connected = self._on_connected

    def close(self) -> None:
        """Break a call that runs, and make no more."""
        if self._service is not None:
            self._service.abort()
        self._worker.close()

    async def run(self, holder: KeyHolder, renewed: Callable[[], None]) -> None:
        """Renew whenever it is due, until cancelled; never raises anything else.

        Args:
            holder: the car's signing key of now.
            renewed: told when a new identity lies there for the next connection.
        """
        if self._service is None:
            self._say_nobody()
            return
        holder.on_rotated = self._wake.set
        while True:
            self._wake.clear()
            wait_ms = 0 if holder.rotations else self._wait_ms()
            if wait_ms > 0:
                await self._sleep(wait_ms)
                continue
            delay_s = await self._attempt(self._service, holder, renewed)
            if delay_s:
                now_ms = self._clock.now().boot_ms
                await self._clock.sleep_until(now_ms + round(delay_s * 1000))

    # -- when ---

    def plan(self) -> RenewalPlan | None:
        """Return when the newest certificate is due; None if it cannot be read."""
        try:
            leaf = read_certificates(self._store.newest.certificate)[0]
        except TlsSetupError:
            return None
        return plan_renewal(leaf, self._applicant.vehicle_id)

    def _wait_ms(self) -> int:
        plan = self.plan()
        if plan is None or self._is_refused:
            return 0
        return min(plan.due_ms - self._time.trusted_floor_ms(), RECHECK_MS)

    async def _sleep(self, wait_ms: int) -> None:
        at_ms = self._clock.now().boot_ms + wait_ms
        waits = (
            asyncio.create_task(self._clock.sleep_until(at_ms)),
            asyncio.create_task(self._wake.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _on_refused(self) -> None:
        self._is_refused = True
        self._wake.set()

    def _on_connected(self) -> None:
        self._is_refused = False
        self._failures = 0

    # -- one attempt ---

    async def _attempt(
        self, service: Enrolment, holder: KeyHolder, renewed: Callable[[], None]
    ) -> float:
        """Ask once; return the seconds to wait before asking again."""
        rotations = holder.rotations
        try:
            uncertified = await self._worker.run(
                lambda: self._recertify(service, rotations)
            )
            new = await self._worker.run(lambda: self._renew(service, holder))
        except (EnrolmentError, TlsSetupError, OSError) as error:
            is_for_good = isinstance(error, EnrolmentError) and not error.retryable
            self._failures = _LONGEST if is_for_good else self._failures + 1
            delay_s = self._delay_s()
            if isinstance(error, EnrolmentError):
                delay_s = max(delay_s, error.retry_after_s)
            self._log.error(
                "= certificate not renewed, %s; asked again in %d min: %s",
                self._left(),
                max(round(delay_s / 60), 1),
                error,
            )
            return delay_s
        self._log.info("= certificate renewed, valid until %s", new.expires.isoformat())
        if uncertified is None and rotations:
            await holder.certified(rotations)
            self._log.info("= the new signing key is certified")
        if new.ignored_anchors:
            self._log.error(
                "= %d new roots are not trusted, as no held root signed them: the "
                "fleet's office must look at its CA",
                new.ignored_anchors,
            )
        was_refused, self._is_refused = self._is_refused, False
        renewed()
        if not was_refused and uncertified is None:
            self._failures = 0
            return 0.0
        # Until a broker has taken it, a further refusal must not ask at once again.
        self._failures += 1
        return self._delay_s()

    def _delay_s(self) -> float:
        delay_s = self._backoff.delay_s(self._failures, random=self._random)
        plan = self.plan()
        if plan is None or self._failures >= _LONGEST:
            return delay_s
        return min(delay_s, max(plan.longest_wait_ms / 1000, SHORTEST_LIMIT_S))

    def _recertify(
        self, service: Enrolment, rotations: tuple[bytes, ...]
    ) -> EnrolmentError | None:
        """Show our rotations; runs in the worker.

        Returns:
            Why the new signing key is not certified, if the TLS certificate is due all
            the same: with the present one it can be renewed.

        Raises:
            EnrolmentError: it is not certified, and nothing else is due.
            TlsSetupError: our own files cannot be used.
        """
        if not rotations:
            return None
        own, vehicle_id = self._store.newest, self._applicant.vehicle_id
        try:
            certificate = service.recertify(own, vehicle_id, rotations)
            check_recertified(
                certificate, vehicle_id=vehicle_id, key=rotated_key(rotations[-1])
            )
        except EnrolmentError as error:
            if self._wait_ms() > 0:
                raise
            self._log.warning("= the new signing key is not certified: %s", error)
            return error
        return None

    def _renew(self, service: Enrolment, holder: KeyHolder) -> NewIdentity:
        """Make a key, get it certified, write both; runs in the worker.

        After a rotation too: who has the old signing key from a copy of the disk has
        the old TLS key as well.
        """
        own = self._store.newest
        key = ec.generate_private_key(ec.SECP256R1())
        request = self._request(key)
        floor = datetime.fromtimestamp(self._time.trusted_floor_ms() / 1000, UTC)
        issued = None
        if not self._is_expired():
            # Refused files or a refused certificate: the signature remains.
            with suppress(TlsSetupError):
                try:
                    issued = service.reenroll(own, request)
                except EnrolmentError as error:
                    if error.code not in _ASK_BY_SIGNATURE:
                        raise
        if issued is None:
            nonce = service.grace_nonce(own, self._applicant.vehicle_id)
            message = grace_message(
                self._applicant.fleet_id, self._applicant.vehicle_id, nonce, request
            )
            issued = service.grace(
                own,
                self._applicant.vehicle_id,
                request,
                nonce=nonce,
                signature=holder.sign(message),
            )
        new = check_issued(
            issued,
            vehicle_id=self._applicant.vehicle_id,
            key=key.public_key(),
            held_anchors=read_certificates(own.trust_anchors),
            floor=floor,
        )
        self._store.add(
            key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            chain=new.chain,
            anchors=new.anchors,
        )
        return new

    def _request(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        name = x509.NameAttribute(NameOID.COMMON_NAME, str(self._applicant.vehicle_id))
        return (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([name]))
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )

    def _is_expired(self) -> bool:
        plan = self.plan()
        return plan is None or self._time.trusted_floor_ms() >= plan.expires_ms

    # -- words ---

    def _left(self) -> str:
        plan = self.plan()
        if plan is None:
            return "the present one cannot be read"
        days = (plan.expires_ms - self._time.trusted_floor_ms()) / 86_400_000
        return f"{days:.0f} days left" if days > 0 else "the present one has expired"

    def _say_nobody(self) -> None:
        self._log.warning(
            "= nobody renews the certificate, %s: name the enrolment service in the "
            "settings (docs/integrators.md, section 7)",
            self._left(),
        )
