"""Keeps what the car trusts, and ends the session when that, or the machine, changed.

The rules are the core's; here they are carried out: a bundle and the entry that tells
it become durable together, and only then it is used. Every change of session is told by
a hello on the same connection, and the link is made anew later, at a quiet moment, as
the will that the broker holds names the session that has ended (FF-DTH-01).
"""

import logging
from collections.abc import Awaitable, Callable

from gateway.core.events import Event, Noted
from gateway.core.key_rotation import UNPROVED
from gateway.core.moment import Moment
from gateway.core.trust_renewal import TrustInUse, newer_trust
from gateway.ports import Clock, Keyring, KeyringError, Outlet, Stored
from gateway.runtime.attached import Attached
from gateway.runtime.herald import Herald
from gateway.runtime.standing import Standing
from gateway.runtime.suspend_watch import SuspendWatch
from protocol.codes import FaultKind
from protocol.event import EventBody, FaultCleared, FaultRaised
from protocol.keys import SigningKey
from protocol.trust import BUNDLE, SIGNED_BUNDLE
from protocol.vehicle_event import KeyRotated, TrustChanged

Step = Callable[[Event, Moment, Attached], Awaitable[object]]
"""Steps an event and makes what is attached durable with it."""


class Custodian:
    """Trust, key and session of what stands.

    Args:
        standing: what stands; trust, key and session in it are changed here.
        keyring: where the signing key lies.
        clock: knows how long the machine has slept.
        outlet: the link.
        herald: says hello.
        step: see `Step`.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        keyring: Keyring,
        clock: Clock,
        outlet: Outlet,
        herald: Herald,
        step: Step,
    ) -> None:
        self._standing = standing
        self._keyring = keyring
        self._outlet = outlet
        self._herald = herald
        self._step = step
        self._suspend = SuspendWatch(clock)
        vehicle = standing.persona.vehicle_id.short
        self._log = logging.getLogger(f"{__name__}.{vehicle}")

    # -- sessions ---------------------------------------------------------------------

    def begin_session(self, now: Moment) -> None:
        """Begin a new session; commands of the one before are void."""
        self._standing.session.renew(now=now)
        self._suspend.begin()

    def notice_suspend(self, now: Moment) -> None:
        """End the session if the machine has slept: see `SuspendWatch`."""
        if self._suspend.has_overslept:
            self._log.warning("= the machine slept: a new session begins")
            self._change_session(now)

    def _change_session(self, now: Moment) -> None:
        self.begin_session(now)
        self._herald.announce(now=now)
        self._outlet.renew_link()

    # -- trust ------------------------------------------------------------------------

    async def begin(self, started: Event, stored: Stored, now: Moment) -> None:
        """Take the first step of a start, and trust the newer of the two bundles.

        Args:
            started: the first step's event.
            stored: what the store holds.
            now: when.

        Raises:
            StoreError: it could not be kept.
        """
        standing = self._standing
        found, kept = standing.trust, _kept_trust(stored)
        if kept is None:
            await self._step(started, now, Attached(trust=found))
            return
        standing.trust = kept
        standing.expiry_told = stored.expiry_told
        await self._step(started, now, Attached())
        newer = newer_trust(found, kept)
        if newer is not kept:
            await self.renew_trust(newer, now)
        elif found.data != kept.data:
            self._log.warning(
                "= the directory holds trust bundle %d, version %d is in use: ignored",
                found.bundle.version,
                kept.bundle.version,
            )

    async def renew_trust(self, trust: TrustInUse, now: Moment) -> None:
        """Put a bundle in the place of the one in use; every older command is void.

        Raises:
            StoreError: it could not be kept, and the old one stands.
        """
        standing = self._standing
        changed = TrustChanged(
            standing.trust.bundle.version, trust.bundle.version, trust.body_hash
        )
        entries: tuple[EventBody, ...] = (changed,)
        if standing.expiry_told:
            entries = (changed, FaultCleared(FaultKind.TRUST_EXPIRED))
        await self._step(Noted(entries), now, Attached(trust=trust))
        standing.trust = trust
        standing.expiry_told = False
        standing.time.note(trust.bundle.issued_ms, now=now)
        self._change_session(now)
        self._log.info("= trust bundle %d is in use", trust.bundle.version)

    async def notice_freeze(self, now: Moment) -> None:
        """Tell once that the bundle is past its end: somebody keeps newer ones away.

        No fault of the car's mode: it goes on, and the fleet must see to it.

        Raises:
            StoreError: it could not be told, and will be tried again.
        """
        standing = self._standing
        if standing.expiry_told or not standing.is_bundle_expired(now=now):
            return
        self._log.warning(
            "= trust bundle %d has expired, and no newer one has come: see that the "
            "fleet publishes one and that it reaches the car",
            standing.trust.bundle.version,
        )
        expired = Noted((FaultRaised(FaultKind.TRUST_EXPIRED),))
        await self._step(expired, now, Attached(expiry_told=True))
        standing.expiry_told = True
        self._herald.announce(now=now)

    # -- the signing key --------------------------------------------------------------

    async def settle_key(self, key_id: bytes | None) -> None:
        """Sign by the key that the ledger names.

        Raises:
            KeyringError: it could not be put in its place.
        """
        self._standing.key = await self._keyring.settle(key_id)

    async def next_key(self) -> SigningKey | None:
        """Return the key that a rotation can name; None if none can be made."""
        try:
            return await self._keyring.prepare()
        except KeyringError as error:
            self._log.warning("= no new signing key: %s", error)
            return None

    async def rotate_key(self, *, now: Moment) -> bool:
        """Change the signing key; returns whether a new one was named.

        Raises:
            StoreError: it could not be kept, and the old one stays.
        """
        successor = None if self._standing.is_in_service else await self.next_key()
        if successor is None:
            return False
        rotated = Noted((KeyRotated(successor.verify_key.raw, UNPROVED),))
        await self._step(rotated, now, Attached(successor=successor))
        return True

    async def switch_key(self, successor: SigningKey) -> None:
        """Sign by the key that the ledger has just named."""
        self._standing.key = successor
        try:
            await self._keyring.settle(successor.key_id)
        except KeyringError as error:
            # The next start does it: the ledger says which key counts.
            self._log.warning("= the old signing key is still there: %s", error)
        self._outlet.renew_link()


def _kept_trust(stored: Stored) -> TrustInUse | None:
    """Read the bundle that the store holds: it was verified when it was accepted."""
    if stored.trust is None:
        return None
    body = SIGNED_BUNDLE.parse(stored.trust).body
    return TrustInUse(BUNDLE.parse(body), stored.trust)
