"""A scene that remembers who was allowed what, and judges each step by it."""

from collections import Counter

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.events import (
    CardPresented,
    CommandReceived,
    Event,
    PinChecked,
    PinVerdict,
)
from gateway.core.turn import Decision
from protocol.codes import RentalMode
from protocol.command import Command, EngineRelease, Lock, Reserve, Unlock
from protocol.event import Parked, RentalEnded, RentalStarted, build_event
from protocol.identity import card_digest
from protocol.rental_codes import Rights
from protocol.rental_event import HandoverDone
from protocol.result import RESULT, Result
from tests.gateway.core.scene import Scene


class WatchedScene(Scene):
    """A scene that remembers who was allowed what."""

    def __init__(self) -> None:
        self.engine_allowed = False
        self.reports: Counter[bytes] = Counter()
        self.starts: Counter[bytes] = Counter()
        super().__init__()

    def happen(self, event: Event) -> Decision:
        held = self.state.rental_id
        cards = self._cards()
        may_begin = self._may_begin(event)
        parked = self.state.mode is RentalMode.PARKED
        decision = super().happen(event)
        self._require_authority(event, decision, held, cards, may_begin=may_begin)
        for entry in decision.entries:
            if isinstance(entry, Result):
                assert RESULT.parse(RESULT.build(entry)) == entry
                continue
            build_event(entry)
            if isinstance(entry, RentalStarted):
                begun = decision.state.rental_id
                assert entry.rental_id == begun
                assert begun == held or self.reports[held or b""] == 1
                assert not parked
                self.starts[entry.rental_id] += 1
            elif isinstance(entry, RentalEnded):
                assert held == entry.rental_id
                self.reports[entry.rental_id] += 1
        return decision

    def _may_begin(self, event: Event) -> bool:
        """Return whether a grant or the fleet's word lets this begin at a free car."""
        if self.state.mode is not RentalMode.AVAILABLE:
            return False
        if isinstance(event, CardPresented) and self.quality.trusted:
            return any(
                grant.not_before_wall_ms <= self.wall_ms < grant.not_after_wall_ms
                and grant.card == card_digest(grant.rental_id, event.uid)
                and Rights.UNLOCK in grant.rights
                and grant.rights & (Rights.DRIVE | Rights.SERVICE)
                for grant in self.state.grants
            )
        waiting = self.state.walk_up
        return (
            waiting is not None
            and isinstance(event, CommandReceived)
            and isinstance(event.command, Reserve)
            and card_digest(event.command.rental_id, waiting.uid) in event.command.cards
            and self.boot_ms < waiting.until_ms
        )

    def _cards(self) -> tuple[bytes, ...]:
        if self.state.rental is not None:
            return self.state.rental.reservation.cards
        return () if self.state.reservation is None else self.state.reservation.cards

    def _require_authority(
        self,
        event: Event,
        decision: Decision,
        held: bytes | None,
        cards: tuple[bytes, ...],
        *,
        may_begin: bool,
    ) -> None:
        """I-12, C11: nothing opens and nothing starts without a right to it."""
        handed_over = any(isinstance(e, HandoverDone) for e in decision.entries)
        if handed_over:
            # H11: a second driver's PIN only, and the first rental ends with it.
            assert isinstance(event, PinChecked)
            assert event.verdict is PinVerdict.RIGHT
            assert event.rental_id not in {held, None}
        if (
            handed_over
            or _proves_pin(event, held)
            or _orders(event, EngineRelease, held)
        ):
            self.engine_allowed = True
        by_card = may_begin or (
            isinstance(event, CardPresented)
            and held is not None
            and card_digest(held, event.uid) in cards
        )
        for action in decision.actions:
            if isinstance(action, DriveLocks):
                command = Lock if action.locked else Unlock
                if action.locked and decision.state.rental is None:
                    continue  # a free car that stands open may close itself
                assert by_card or _orders(event, command, held), "nobody may move it"
            elif isinstance(action, AllowEngine) and action.released:
                assert self.engine_allowed, "nobody may start it"
        over = any(isinstance(e, Parked | RentalEnded) for e in decision.entries)
        if over and not handed_over:
            self.engine_allowed = False


def _proves_pin(event: Event, held: bytes | None) -> bool:
    return (
        isinstance(event, PinChecked)
        and event.verdict is PinVerdict.RIGHT
        and event.rental_id == held
    )


def _orders(event: Event, kind: type[Command], held: bytes | None) -> bool:
    return (
        isinstance(event, CommandReceived)
        and isinstance(event.command, kind)
        and event.command.rental_id == held
    )
