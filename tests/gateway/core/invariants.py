"""What must hold after every step of the core, whatever happened."""

from dataclasses import replace

from gateway.core.actions import AllowEngine, DriveLocks, ShowLight, ShowPrompt
from gateway.core.appearance import is_rentable, light_of
from gateway.core.dialogue import prompt_of
from gateway.core.events import (
    AgentStarted,
    CardPresented,
    CommandReceived,
    DeadlineReached,
    Event,
    PinChecked,
)
from gateway.core.grants import GRANTS_LIMIT
from gateway.core.moment import Moment
from gateway.core.prompts import NO_PROMPT
from gateway.core.room import Room
from gateway.core.state import Purpose, State
from gateway.core.turn import Decision
from gateway.core.vehicle import handle, next_deadline
from protocol.codes import Condition, Light, RentalMode
from protocol.command import ANY_VERSION, Reserve
from protocol.event import EventBody, RentalEnded
from protocol.identity import card_digest
from protocol.rental_command import Service
from protocol.result import Result

_OF_SERVICE = frozenset({Purpose.SERVICE_OPEN, Purpose.SERVICE_CLOSE})


def require_lawful(
    before: State, event: Event, decision: Decision, *, now: Moment
) -> None:
    """Fail if one step broke an invariant."""
    if decision.illegal is not None:
        assert decision == Decision(before, (), (), None, decision.illegal)
        return
    _require_honest_face(before, event, decision)
    _require_open_question(before, event, decision)
    _require_consistent(decision.state)
    _require_version(before, decision.state)
    _require_prudent_orders(decision, now)
    _require_sane_report(decision)
    _require_room(before, event, decision, now)
    if isinstance(event, DeadlineReached):
        due_ms = next_deadline(decision.state)
        assert due_ms is None or due_ms > now.boot_ms, "a deadline that never passes"


def _require_honest_face(before: State, event: Event, decision: Decision) -> None:
    """I-16, H15: indicator and display follow the state, and are told on change."""
    state = decision.state
    fresh = isinstance(event, AgentStarted)
    was_light = (
        (Light.OFF, False) if fresh else (before.shown_light, before.shown_blinking)
    )
    was_prompt = NO_PROMPT if fresh else before.shown_prompt
    light, prompt = light_of(state), prompt_of(state)
    assert (state.shown_light, state.shown_blinking) == light
    assert state.shown_prompt == prompt
    told_lights = [action for action in decision.actions if type(action) is ShowLight]
    told_prompts = [action for action in decision.actions if type(action) is ShowPrompt]
    assert told_lights == ([ShowLight(*light)] if light != was_light else [])
    assert told_prompts == ([ShowPrompt(prompt)] if prompt != was_prompt else [])
    green = light[0] is Light.GREEN
    assert not green or (state.mode is RentalMode.AVAILABLE and is_rentable(state))
    assert not green or state.room.takes_rental, "H15: green without room for a rental"


def _require_open_question(before: State, event: Event, decision: Decision) -> None:
    """I-16, I-19: who lost the ledger asks the fleet, and leaves the car as it is."""
    state = decision.state
    if before.is_lost and not state.is_lost:
        assert isinstance(event, CommandReceived), "I-16: found again without the fleet"
        assert isinstance(event.command, Reserve | Service)
    if not state.is_lost or isinstance(event, AgentStarted):
        return
    assert state.mode is RentalMode.AVAILABLE, "I-17: a rental with a lost ledger"
    assert not state.updating, "I-17: update under somebody's hands"
    refusing = state.refusing_until_ms is not None
    shown = Light.RED if refusing else Light.FAULT_PATTERN
    assert state.shown_light is shown, "H15: an unknown state looks like another"
    if state.workshop is None:
        moved = [
            each
            for each in decision.actions
            if isinstance(each, DriveLocks | AllowEngine)
            and each != DriveLocks(locked=False)
        ]
        assert moved == [], "I-19: moved under somebody's hands"


def _require_consistent(state: State) -> None:
    """I-17: the parts of the state fit the mode."""
    assert (state.reservation is not None) == (state.mode is RentalMode.RESERVED)
    assert (state.rental is not None) == state.mode.in_rental
    if state.pending is not None:
        of_service = state.pending.purpose in _OF_SERVICE
        assert of_service == (state.mode is RentalMode.AVAILABLE)
    on_duty = state.workshop is not None or state.updating
    assert not on_duty or state.mode is RentalMode.AVAILABLE, "service in a rental"
    assert state.workshop is None or not state.updating, "update in service"
    assert len(state.grants) <= GRANTS_LIMIT
    assert len({grant.grant_id for grant in state.grants}) == len(state.grants)
    assert state.walk_up is None or state.mode is RentalMode.AVAILABLE
    assert (state.notice_until_ms is None) == (state.notice == NO_PROMPT)
    if state.rental is not None:
        rental = state.rental
        parked = rental.parked_since_ms is not None
        assert parked == (state.mode is RentalMode.PARKED)
        assert (rental.refuelling is not None) == (state.mode is RentalMode.REFUELLING)
        assert not (parked and rental.pin_accepted)


def _require_version(before: State, state: State) -> None:
    """A change of mode is a new version; it never says "any"."""
    assert 0 <= state.version < ANY_VERSION
    if state.mode is not before.mode:
        assert state.version != before.version


def _require_prudent_orders(decision: Decision, now: Moment) -> None:
    """I-1, I-2: nothing is closed or held unless the car is known to stand still."""
    reading = decision.state.reading
    age_ms = now.boot_ms - decision.state.reading_at_ms
    for action in decision.actions:
        match action:
            case DriveLocks(locked=True):
                assert reading is not None
                assert age_ms <= 2_000
                assert not any(
                    (
                        reading.engine_running,
                        reading.ignition_on,
                        reading.moving,
                        reading.door_open,
                        reading.boot_open,
                    )
                )
            case AllowEngine(released=False):
                assert reading is not None
                assert age_ms <= 2_000
                assert not any((reading.engine_running, reading.moving))
            case _:
                pass


def _require_sane_report(decision: Decision) -> None:
    """C27: what is billed is never negative, and parking is part of the whole."""
    for entry in decision.entries:
        if isinstance(entry, RentalEnded):
            assert 0 <= entry.parking_ms <= entry.total_ms
            assert entry.distance_m is None or entry.distance_m >= 0


def _require_room(before: State, event: Event, decision: Decision, now: Moment) -> None:
    """I-20: what could not be recorded to its end does not begin; what runs may end."""
    if before.room.takes_rental or isinstance(event, AgentStarted):
        return
    after = decision.state.rental_id
    assert after in {None, before.rental_id}, "I-20: begun without room for its end"
    opens = DriveLocks(locked=False) in decision.actions
    if before.mode is RentalMode.RESERVED and not before.room.keeps_promise:
        assert not opens, "I-20: opened for a promise that there is no room for"
    if before.rental is not None and not _is_about_next_rental(before, event):
        with_room = replace(before, room=Room.ANOTHER)
        free = handle(with_room, event, now=now)
        same = replace(free, state=replace(free.state, room=decision.state.room))
        if decision.state.mode is RentalMode.AVAILABLE:
            # It ended: the car says that nobody can begin, and nothing else differs.
            decision, same = without_face(decision), without_face(same)
        assert decision == same, "I-20: what runs is another on a full disk"


def without_face(decision: Decision) -> Decision:
    """Return a decision without what it says of the condition of a free car (H15)."""

    def plain(entry: EventBody | Result) -> EventBody | Result:
        if not isinstance(entry, Result):
            return entry
        snapshot = replace(entry.snapshot, condition=Condition.OK, light=Light.GREEN)
        return replace(entry, snapshot=snapshot)

    return replace(
        decision,
        state=replace(decision.state, shown_light=Light.GREEN, shown_blinking=False),
        actions=tuple(each for each in decision.actions if type(each) is not ShowLight),
        entries=tuple(plain(entry) for entry in decision.entries),
    )


def _is_about_next_rental(before: State, event: Event) -> bool:
    """Return whether an event in a rental could begin the next one."""
    match event:
        case CommandReceived(command=command):
            return command.rental_id != before.rental_id
        case PinChecked(rental_id=rental_id):
            return rental_id != before.rental_id
        case CardPresented(uid=uid):
            second = None if before.rental is None else before.rental.handover
            return (
                second is not None and card_digest(second.offer_id, uid) in second.cards
            )
        case _:
            return False


def results_of(decision: Decision) -> list[Result]:
    """Return the answers that a decision writes into the ledger."""
    return [entry for entry in decision.entries if isinstance(entry, Result)]
