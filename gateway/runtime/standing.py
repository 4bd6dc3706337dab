"""What stands: who the car is, and what was last committed.

It is shared by the parts of the shell, and changed only after a commit.
"""

from dataclasses import dataclass

from gateway.core.authentication import Desk
from gateway.core.configuration import Active
from gateway.core.ledger import LedgerHead, Signatory
from gateway.core.moment import Moment
from gateway.core.service import is_in_service
from gateway.core.state import State
from gateway.core.trust_renewal import TrustInUse
from gateway.ports import Origin
from gateway.runtime.journal import Journal
from gateway.runtime.session import Session
from gateway.runtime.timekeeper import Timekeeper
from protocol.entry import FIRST_SEQ
from protocol.identity import VehicleId
from protocol.keys import SigningKey


@dataclass(frozen=True, slots=True)
class Persona:
    """Whose runtime it is."""

    vehicle_id: VehicleId
    """This vehicle."""
    fleet_id: bytes
    """16 bytes."""
    group: int
    """The group of vehicles that it belongs to; 0 for none."""
    firmware: bytes
    """4 bytes: major, minor, patch, 0."""


@dataclass(slots=True)
class Standing:
    """The last committed state and what belongs to it."""

    persona: Persona
    """Who."""
    key: SigningKey
    """Signs all that is sent."""
    trust: TrustInUse
    """Whose commands and receipts count."""
    time: Timekeeper
    """What is known about the time."""
    state: State
    """Committed, not merely decided."""
    head: LedgerHead
    """The newest entry."""
    receipted: int
    """Entries up to here have a receipt."""
    journal: Journal
    """Known commands."""
    session: Session
    """The session of now."""
    origin: Origin | None = None
    """Set if this ledger began in place of another."""
    expiry_told: bool = False
    """Whether it was told that the bundle in use has expired."""
    configurations: tuple[Active, ...] = ()
    """Bodies in force."""

    @property
    def is_in_service(self) -> bool:
        """Whether the disk takes nothing."""
        return is_in_service(self.state)

    @property
    def was_reset(self) -> bool:
        """Whether the fleet has yet to hear that the ledger was replaced."""
        return self.origin is not None and self.receipted < FIRST_SEQ

    def desk(self, *, now: Moment) -> Desk:
        """Return what frames from the fleet are judged by."""
        return Desk(
            vehicle_id=self.persona.vehicle_id,
            fleet_id=self.persona.fleet_id,
            session_id=self.session.id,
            bundle=self.trust.bundle,
            lanes=self.session.lanes,
            journal=self.journal.find,
            journal_is_complete=self.session.is_in_journal(now=now),
            group=self.persona.group,
            time=self.time.known,
        )

    @property
    def signatory(self) -> Signatory:
        """In whose name frames are signed now."""
        return Signatory(
            vehicle_id=self.persona.vehicle_id,
            fleet_id=self.persona.fleet_id,
            session_id=self.session.id,
            key=self.key,
        )

    def is_bundle_expired(self, *, now: Moment) -> bool:
        """Return whether the car is being kept from a newer bundle (FF-TRU)."""
        expires_ms = self.trust.bundle.expires_ms
        return self.time.known.is_over(expires_ms, now=now)
