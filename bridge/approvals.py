r"""Orders that need the word of a second person, and how far each is (K28).

Theory of operation::

    PENDING -> APPROVED -> carried out, one command for each vehicle
           \-> REJECTED
           \-> EXPIRED

Two kinds of order wait here: one that keeps a car from driving outside the flow of a
rental, and any order once its caller, or all callers together, reached too many cars
within a window. Who asked never decides.

The attacker considered: somebody with one operator's key, or somebody who took it, who
wants to strand a fleet. Splitting the order into single calls does not help, because
cars are counted in the store, over every replica, for each caller and for all.

Rule 1: a decision is written once and never changed.
Rule 2: an approved order is carried out soon or not at all: what opens a car must not
happen when nobody expects it any more.
Rule 3: an order that holds secrets, or a span of time from now on, is never kept, so it
cannot wait for anybody.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from bridge.errors import BridgeError
from bridge.orders import Order, opcode_of
from protocol.codes import ConfigKind, HoldReason, LockMode, Opcode
from protocol.command import EngineHold, Lock, LockAndDisable
from protocol.identity import VehicleId
from protocol.snapshot import NO_RENTAL

CARRY_OUT_MS: Final = 60_000
"""How long after its approval an order may still be given: a bridge that stops in
between is back by then, or another one does it."""

ACCEPT_GAP: Final = "accept_gap"
"""The kind of what is no order to a car: going on behind missing entries."""

CONFIGURE: Final = "configure"
"""The kind of what is no order either: a configuration that is wanted of vehicles."""

VEHICLES_LIMIT: Final = 1_000
"""Vehicles of one approval."""

NOTE_LIMIT: Final = 200
"""Characters of what a person says about it."""

HARMLESS: Final = frozenset(
    {Opcode.PING, Opcode.SNAPSHOT, Opcode.EXPLAIN, Opcode.FLASH_HAZARDS}
)
"""What changes nothing in a car: finding one, and asking how it is."""


@unique
class ApprovalState(StrEnum):
    """How far an approval is."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


@unique
class Cause(StrEnum):
    """Why an order needs a second person."""

    IMMOBILISES = "immobilises"
    """It keeps a car from driving, outside the flow of a rental."""
    GIVES_UP_ENTRIES = "gives-up-entries"
    """It goes on behind ledger entries that are missing; nothing takes that back."""
    MANY_VEHICLES = "many-vehicles"
    """It was asked for many vehicles at once."""
    MANY_BY_CALLER = "many-by-caller"
    """Its caller reached as many vehicles as one may within the window."""
    MANY_IN_ALL = "many-in-all"
    """All callers together reached as many vehicles as they may within the window."""


@dataclass(frozen=True, slots=True)
class MassLimits:
    """From how many vehicles on orders need a second person."""

    window_ms: int
    """How far back vehicles are counted."""
    by_caller: int
    """Different vehicles that one caller may reach within it."""
    in_all: int
    """Different vehicles that all callers may reach within it."""


@dataclass(frozen=True, slots=True)
class MissingEntries:
    """Entries of one vehicle's ledger that will not come."""

    vehicle_id: VehicleId
    """Whose."""
    ledger_id: bytes
    """8 bytes."""
    first: int
    """Sequence of the first one."""
    last: int
    """Sequence of the last one."""


@dataclass(frozen=True, slots=True)
class WantedBody:
    """A configuration that is wanted of vehicles."""

    kind: ConfigKind
    """What it is about."""
    body: bytes
    """The whole."""

    @property
    def sha256(self) -> bytes:
        """32 bytes."""
        return hashlib.sha256(self.body).digest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done once it is approved."""

    vehicle_ids: tuple[VehicleId, ...]
    """Of which vehicles; at least one."""
    opcode: Opcode | None
    """What the order becomes; None if `gaps` or `configuration` is what is wanted."""
    payload: bytes
    """The order, encoded; it holds no secret."""
    idempotency_key: str | None = None
    """The caller's, if it was one order to one vehicle."""
    defer_s: int = 0
    """How long each command may wait for a vehicle that is offline."""
    gaps: tuple[MissingEntries, ...] = ()
    """What is accepted to be missing, one gap for each vehicle."""
    configuration: WantedBody | None = None
    """What each vehicle is brought to."""

    @property
    def kind(self) -> str:
        """What is wanted, for programs."""
        if self.configuration is not None:
            return CONFIGURE
        return ACCEPT_GAP if self.opcode is None else self.opcode.name.lower()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an approved order for one vehicle."""

    vehicle_id: VehicleId
    """Which."""
    command_id: bytes
    """16 bytes; empty if there is none."""
    problem: str = ""
    """Why there is no command."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One order that waits for, or had, a second person; a value."""

    row_id: int
    """Rises; orders lists. 0 before it is stored."""
    approval_id: bytes
    """16 bytes."""
    wanted: Wanted
    """What is to be done."""
    cause: Cause
    """Why it needs a second person."""
    digest: bytes
    """32 bytes: tells a repeated request from another one."""
    asked_by: str
    """Who ordered it."""
    asked_ms: int
    """UTC ms."""
    expires_ms: int
    """Until when it can be approved, UTC ms."""
    note: str = ""
    """What who asked says about it."""
    state: ApprovalState = ApprovalState.PENDING
    """How far it is."""
    decided_by: str | None = None
    """Who approved or rejected it."""
    decided_ms: int | None = None
    """When, or when it expired; UTC ms."""
    reason: str = ""
    """What who decided says about it."""
    is_carried_out: bool = False
    """Whether everything was done that will be."""
    outcomes: tuple[Outcome, ...] = ()
    """For each vehicle that was dealt with, in the order of `wanted`."""
    consent: bytes = b""
    """What who approved signed with their own key (`bridge.consent`), for a signer in a
    process of its own; empty if they signed nothing."""
    audit_row: int = 0
    """The row of the audit trail that asked for it; 0 for none."""
    decided_row: int = 0
    """The row of the audit trail that decided; 0 for none."""

    @property
    def is_under_way(self) -> bool:
        """Whether it was approved, and may be given yet."""
        return self.state is ApprovalState.APPROVED and not self.is_carried_out


class ApprovalError(BridgeError):
    """Root of what stands between an order and its second person."""


class ApprovalNeededError(ApprovalError):
    """The order waits for a second person, or was decided; nothing was sent by it."""

    def __init__(self, approval: Approval) -> None:
        """Keep the approval that the caller may follow."""
        super().__init__(f"approval {approval.approval_id.hex()} is {approval.state}")
        self.approval = approval


class ApprovalImpossibleError(ApprovalError):
    """The order needs a second person and cannot be kept for one; nothing was sent."""

    def __init__(self, cause: Cause) -> None:
        """Keep why it needs a second person."""
        super().__init__(
            f"an order that {cause} holds what is not kept, so it cannot wait"
        )
        self.cause = cause


class DecisionRefusedError(ApprovalError):
    """Whoever decided may not, or it is decided; nothing changed."""

    def __init__(self, approval: Approval, *, is_own: bool) -> None:
        """Keep the approval as it is, and whether who decides is who asked."""
        super().__init__(f"approval {approval.approval_id.hex()} is {approval.state}")
        self.approval = approval
        self.is_own = is_own


class ConsentNeededError(ApprovalError):
    """Who approves must sign it with their own key, and did not; nothing changed."""

    def __init__(self, approval: Approval, why: str) -> None:
        """Keep the approval as it is, and what is amiss."""
        super().__init__(f"approval {approval.approval_id.hex()}: {why}")
        self.approval = approval
        self.why = why


def immobilises(order: Order) -> bool:
    """Return whether an order keeps a car from driving, outside a rental's own flow.

    Closing a car withdraws the engine's release too. A rental's flow names its rental,
    which the car compares with its own.
    """
    match order:
        case EngineHold():
            is_operators = order.reason is HoldReason.OPERATOR
            return is_operators or order.rental_id == NO_RENTAL
        case LockAndDisable():
            return order.rental_id == NO_RENTAL
        case Lock():
            is_plain = order.lock_mode is LockMode.PLAIN
            return order.rental_id == NO_RENTAL and not is_plain
        case _:
            return False


def counts(order: Order) -> bool:
    """Return whether an order's vehicle counts towards the limits."""
    return opcode_of(order) not in HARMLESS


def key_of(approval: Approval) -> str:
    """Return the idempotency key of its commands; no caller's has a space.

    Whoever could use it first, with another order, would have the approved one refused.
    """
    return f"approval {approval.approval_id.hex()}"
