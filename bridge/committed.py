"""What a committed batch causes."""

from dataclasses import dataclass

from bridge.commands import CommandRecord
from bridge.key_book import Rotation
from bridge.vehicle import VehicleState
from protocol.identity import VehicleId
from protocol.receipt import Receipt


@dataclass(frozen=True, slots=True)
class ReceiptDue:
    """A receipt that may be signed now, because its transaction is committed."""

    vehicle_id: VehicleId
    """Whom it is for."""
    vehicle: VehicleState
    """What is known of it: session and clock go into the frame."""
    receipt: Receipt
    """What it says."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a committed batch causes."""

    notes: tuple[str, ...]
    """For each record what became of it."""
    receipts: tuple[ReceiptDue, ...]
    """To sign and send."""
    commands: tuple[CommandRecord, ...]
    """Commands that changed."""
    has_events: bool
    """Whether the outbox grew."""
    rotations: tuple[Rotation, ...] = ()
    """Changes of keys that are stored now."""
    greeted: tuple[VehicleId, ...] = ()
    """Cars that said HELLO, doubtful ones included."""
