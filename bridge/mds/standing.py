"""Where a vehicle stands for a city, and what it must be told: pure.

A `Standing` is folded over the ledger's events, in ledger order, and over the car's
coming and going. It is stored in the vehicle's state, so it survives; each step goes
into a table of its own in the same transaction.

Rule 1: every step is an arc of `bridge.mds.machine`. Where entries are lost the steps
between are inferred and marked so.
Rule 2: times never fall within one vehicle: an event that is told late has at least the
time of the one told before it.
Rule 3: a car that comes back with entries that the bridge has not told yet stays
non-contactable until the first of them: only they say where it is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from bridge.mds.machine import (
    OF_TRIPS,
    Arc,
    MdsEventType,
    MdsState,
    way_for,
    way_to,
)
from protocol.codes import CancelReason, RentalMode
from protocol.event import (
    EngineStarted,
    EngineStopped,
    EventBody,
    RefuelEnded,
    RefuelStarted,
    RentalEnded,
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
)
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import LedgerReset, ServiceModeChanged

_IDLE: Final = frozenset(
    {MdsState.AVAILABLE, MdsState.NON_OPERATIONAL, MdsState.REMOVED}
)
"""Nobody has the vehicle."""

_OF_MODE: Final = {
    RentalMode.AVAILABLE: MdsState.AVAILABLE,
    RentalMode.RESERVED: MdsState.RESERVED,
    RentalMode.STOPPED: MdsState.STOPPED,
    RentalMode.DRIVING: MdsState.ON_TRIP,
    RentalMode.PARKED: MdsState.STOPPED,
    RentalMode.REFUELLING: MdsState.STOPPED,
}
"""The state that a car's own word about itself stands for."""


@dataclass(frozen=True, slots=True)
class MdsStep:
    """One thing that a city is told."""

    state: MdsState
    """Where the vehicle is after it."""
    type: MdsEventType
    """Why."""
    at_ms: int
    """UTC ms; never falls within one vehicle."""
    rental_id: bytes
    """16 bytes: whose trip it is, or `NO_RENTAL`."""
    is_inferred: bool
    """Whether nobody said so, and what came after it says that it must have been."""


_IN_THE_STREET: Final = frozenset({MdsState.AVAILABLE, MdsState.NON_OPERATIONAL})


class Standing(msgspec.Struct, frozen=True):
    """Where a vehicle stands; a value."""

    state: MdsState = MdsState.REMOVED
    """Where it would be if it were in contact; a car that never spoke is removed."""
    is_contactable: bool = False
    """Whether a city was told that it is in contact."""
    at_ms: int = 0
    """UTC ms of the last step."""
    rental_id: bytes = NO_RENTAL
    """16 bytes: who has it."""
    has_driven: bool = False
    """Whether the rental's trip has begun."""
    in_workshop: bool = False
    """Whether it is in service mode."""
    backlog_seq: int = 0
    """Entries up to here are to be told before it counts as in contact; 0 for none."""
    rotations: int = 0
    """How often it became free: GBFS names it anew each time."""

    @property
    def shown(self) -> MdsState:
        """Return where a city was told that it is."""
        return self.state if self.is_contactable else MdsState.NON_CONTACTABLE

    @property
    def is_in_the_street(self) -> bool:
        """Return whether it stands there and nobody has it, fit or not."""
        return self.state in _IN_THE_STREET


Told = tuple[Standing, tuple[MdsStep, ...]]
"""The standing after something, and what a city is told of it."""


class _Steps:
    """Collects steps while a standing is changed."""

    def __init__(self, standing: Standing, at_ms: int) -> None:
        self.standing = standing
        self.at_ms = max(at_ms, standing.at_ms)
        self.steps: list[MdsStep] = []

    def change(self, **values: object) -> None:
        self.standing = msgspec.structs.replace(self.standing, **values)

    def restore(self) -> None:
        if self.standing.is_contactable:
            return
        is_first = not self.standing.at_ms
        self.change(is_contactable=True)
        if is_first:
            # Nobody was told of it before, so nobody was told that it was lost.
            self.walk(way_for(MdsState.REMOVED, MdsEventType.RECOMMISSIONED))
        else:
            self._note(MdsEventType.COMMS_RESTORED, self.standing.state)

    def lose(self) -> None:
        self.change(is_contactable=False)
        self._note(MdsEventType.COMMS_LOST, MdsState.NON_CONTACTABLE)

    def happen(self, kind: MdsEventType, rental_id: bytes = NO_RENTAL) -> None:
        self.restore()
        if self.standing.rental_id not in {NO_RENTAL, rental_id}:
            # Somebody else has it now: how the one before ended is lost.
            self.reach(MdsState.AVAILABLE)
        way = way_for(self.standing.state, kind)
        self.walk(way[:-1], rental_id, is_inferred=True)
        self.walk(way[-1:], rental_id)

    def reach(self, target: MdsState, rental_id: bytes = NO_RENTAL) -> None:
        self.restore()
        way = way_to(self.standing.state, target)
        self.walk(way, rental_id, is_inferred=True)

    def walk(
        self,
        way: Iterable[Arc],
        rental_id: bytes = NO_RENTAL,
        *,
        is_inferred: bool = False,
    ) -> None:
        for arc in way:
            if self.standing.state in _IDLE and arc.target not in _IDLE:
                self.change(rental_id=rental_id, has_driven=False)
            if arc.target is MdsState.ON_TRIP:
                self.change(has_driven=True)
            self.change(state=arc.target)
            self._note(arc.type, arc.target, is_inferred=is_inferred)
            if arc.target is MdsState.AVAILABLE and arc.source not in _IDLE:
                self.change(
                    rental_id=NO_RENTAL,
                    has_driven=False,
                    rotations=self.standing.rotations + 1,
                )

    def settle(self, *, is_fit: bool) -> None:
        """Bring a vehicle that nobody has to where its condition belongs."""
        if self.standing.state not in _IDLE or not self.standing.is_contactable:
            return
        target = MdsState.AVAILABLE if is_fit else MdsState.NON_OPERATIONAL
        if self.standing.in_workshop:
            target = MdsState.REMOVED
        self.walk(way_to(self.standing.state, target))

    def _note(
        self, kind: MdsEventType, state: MdsState, *, is_inferred: bool = False
    ) -> None:
        rental_id = self.standing.rental_id if kind in OF_TRIPS else NO_RENTAL
        step = MdsStep(state, kind, self.at_ms, rental_id, is_inferred)
        self.steps.append(step)
        self.change(at_ms=self.at_ms)

    @property
    def told(self) -> Told:
        """Return what came of it."""
        return self.standing, tuple(self.steps)


def happened(
    standing: Standing,
    body: EventBody | None,
    *,
    seq: int,
    at_ms: int,
    is_fit: bool,
    is_electric: bool,
) -> Told:
    """Return the standing after a ledger event.

    Args:
        standing: before it.
        body: what happened; None for what this bridge does not understand.
        seq: its sequence, which may end a backlog.
        at_ms: when, UTC ms.
        is_fit: whether the car has no fault after it.
        is_electric: whether it is charged and not fuelled.
    """
    steps = _Steps(standing, at_ms)
    if isinstance(body, ServiceModeChanged):
        steps.change(in_workshop=body.on)
    if isinstance(body, LedgerReset) and standing.state not in _IDLE:
        # How it ended is lost with the ledger, and the car knows nothing of it.
        steps.reach(MdsState.AVAILABLE)
    change = _CHANGES.get(type(body))
    if change is not None:
        rental_id: bytes = getattr(body, "rental_id", NO_RENTAL)
        kind = change(body, steps.standing, is_electric)
        if kind is not None:
            steps.happen(kind, rental_id)
    if steps.standing.backlog_seq and seq >= steps.standing.backlog_seq:
        steps.change(backlog_seq=0)
        steps.restore()
    steps.settle(is_fit=is_fit)
    return steps.told


def greeted(
    standing: Standing,
    mode: RentalMode,
    rental_id: bytes,
    *,
    head_seq: int,
    upto: int,
    at_ms: int,
    is_fit: bool,
) -> Told:
    """Return the standing after a HELLO that counts.

    Args:
        standing: before it.
        mode: what the car says that it is in.
        rental_id: 16 bytes: what it says who has it.
        head_seq: the last entry of its ledger.
        upto: the last one that was told.
        at_ms: UTC ms.
        is_fit: whether the car has no fault.
    """
    steps = _Steps(standing, at_ms)
    if head_seq > upto:
        steps.change(backlog_seq=head_seq)
        return steps.told
    steps.change(backlog_seq=0)
    steps.restore()
    target = _OF_MODE[mode]
    is_idle = steps.standing.state in _IDLE
    if target in _IDLE:
        if not is_idle:
            # What ended it is lost with the ledger that told of it.
            steps.reach(MdsState.AVAILABLE)
    elif steps.standing.state is not target:
        steps.reach(target, rental_id)
    steps.settle(is_fit=is_fit)
    return steps.told


def heard(standing: Standing, *, at_ms: int, is_fit: bool) -> Told:
    """Return the standing after a silent car was heard without a HELLO."""
    steps = _Steps(standing, at_ms)
    if standing.at_ms and not standing.backlog_seq:
        steps.restore()
        steps.settle(is_fit=is_fit)
    return steps.told


def lost(standing: Standing, *, at_ms: int) -> Told:
    """Return the standing after the car fell silent or its link broke."""
    steps = _Steps(standing, at_ms)
    if standing.is_contactable:
        steps.lose()
    return steps.told


_Change = Callable[[object, Standing, bool], MdsEventType | None]


def _reserved(body: object, standing: Standing, _electric: bool) -> MdsEventType | None:
    is_known = _is_of(standing, body) and standing.state is MdsState.RESERVED
    return None if is_known else MdsEventType.RESERVATION_START


def _opened(body: object, standing: Standing, _electric: bool) -> MdsEventType | None:
    has_begun = standing.state in {MdsState.STOPPED, MdsState.ON_TRIP}
    is_known = _is_of(standing, body) and has_begun
    return None if is_known else MdsEventType.RESERVATION_STOP


def _is_of(standing: Standing, body: object) -> bool:
    rental_id: bytes = getattr(body, "rental_id", NO_RENTAL)
    return standing.rental_id == rental_id


def _cancelled(body: object, _standing: Standing, _electric: bool) -> MdsEventType:
    reason = getattr(body, "reason", None)
    if reason is CancelReason.CUSTOMER:
        return MdsEventType.CUSTOMER_CANCELLATION
    return MdsEventType.PROVIDER_CANCELLATION


def _driven(_body: object, standing: Standing, _electric: bool) -> MdsEventType | None:
    if standing.state is MdsState.ON_TRIP:
        return None
    has_driven = standing.has_driven and standing.state is MdsState.STOPPED
    return MdsEventType.TRIP_RESUME if has_driven else MdsEventType.TRIP_START


def _stopped(_body: object, standing: Standing, _electric: bool) -> MdsEventType | None:
    return None if standing.state is MdsState.STOPPED else MdsEventType.TRIP_STOP


def _ended(_body: object, standing: Standing, _electric: bool) -> MdsEventType:
    if standing.state is MdsState.STOPPED and not standing.has_driven:
        # Somebody opened the car, went away and drove nowhere: no trip.
        return MdsEventType.CUSTOMER_CANCELLATION
    return MdsEventType.TRIP_END


def _refuelling(_body: object, _standing: Standing, electric: bool) -> MdsEventType:
    return MdsEventType.CHARGING_START if electric else MdsEventType.FUELING_START


def _refuelled(_body: object, _standing: Standing, electric: bool) -> MdsEventType:
    return MdsEventType.CHARGING_END if electric else MdsEventType.FUELING_END


_CHANGES: Final[dict[type[object], _Change]] = {
    ReservationStarted: _reserved,
    ReservationExpired: _cancelled,
    ReservationCancelled: _cancelled,
    RentalStarted: _opened,
    EngineStarted: _driven,
    EngineStopped: _stopped,
    RefuelStarted: _refuelling,
    RefuelEnded: _refuelled,
    RentalEnded: _ended,
}
"""What each ledger event means to a city; the others mean nothing to it."""
