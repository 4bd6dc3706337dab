"""What stands: who the car is, and what was last committed.

It is shared by the parts of the shell, and changed only after a commit.
"""

from dataclasses import dataclass

from gateway.core.acceptance import Desk
from gateway.core.ledger import LedgerHead, Signatory
from gateway.core.state import State
from gateway.ports import Origin
from gateway.runtime.journal import Journal
from gateway.runtime.session import Session
from protocol.entry import FIRST_SEQ
from protocol.identity import VehicleId
from protocol.keys import SigningKey
from protocol.trust import TrustBundle


@dataclass(frozen=True, slots=True)
class Persona:
    """Whose runtime it is, and whom it trusts."""

    vehicle_id: VehicleId
    """This vehicle."""
    fleet_id: bytes
    """16 bytes."""
    key: SigningKey
    """Signs all that it sends."""
    bundle: TrustBundle
    """Whose commands and receipts count."""
    firmware: bytes
    """4 bytes: major, minor, patch, 0."""


@dataclass(slots=True)
class Standing:
    """The last committed state and what belongs to it."""

    persona: Persona
    """Who."""
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

    @property
    def was_reset(self) -> bool:
        """Whether the fleet has yet to hear that the ledger was replaced."""
        return self.origin is not None and self.receipted < FIRST_SEQ

    @property
    def desk(self) -> Desk:
        """What frames from the fleet are judged by."""
        return Desk(
            vehicle_id=self.persona.vehicle_id,
            fleet_id=self.persona.fleet_id,
            session_id=self.session.id,
            bundle=self.persona.bundle,
            lanes=self.session.lanes,
            journal=self.journal.find,
        )

    @property
    def signatory(self) -> Signatory:
        """In whose name frames are signed now."""
        return Signatory(
            vehicle_id=self.persona.vehicle_id,
            fleet_id=self.persona.fleet_id,
            session_id=self.session.id,
            key=self.persona.key,
        )
