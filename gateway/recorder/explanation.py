"""Why the car did what it did, in words.

Everything said here is read from the mind itself: from the state that it stood in, the
cells of the table that it went through, the rule of the indicator that held, and the
code with which it refused. Nothing is guessed, so nothing can be explained that the car
did not do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.access import DEBOUNCE_MS
from gateway.core.actions import (
    Action,
    AllowEngine,
    CheckPin,
    DriveLocks,
    FlashHazards,
    RestartMachine,
    RestartPart,
    SendRefusal,
    ShowLight,
    ShowPrompt,
)
from gateway.core.appearance import lamp_rule_of, reason_of
from gateway.core.events import (
    AgentStarted,
    BoardRefused,
    BoardReported,
    CardPresented,
    CommandReceived,
    ConfigurationTold,
    DeadlineReached,
    Event,
    LedgerReplaced,
    MenuChosen,
    PinChecked,
    RoomChanged,
)
from gateway.core.state import State
from gateway.core.table import next_mode
from gateway.core.vehicle import handle
from gateway.recorder.redaction import known_cards
from gateway.recorder.replay import Replayed
from protocol.codes import CardRefusal, Code, Condition
from protocol.command import OPCODE_OF
from protocol.event import TYPE_OF, CardRefused
from protocol.identity import card_digest
from protocol.rental_codes import Rights
from protocol.result import Result

_CODES: Final = {
    Code.ALREADY_IN_STATE: "what was ordered was so already",
    Code.VEHICLE_MOVING: "the car moves, or its speed is not known",
    Code.NOT_PARKED: "the car is not parked",
    Code.IGNITION_ON: "engine or ignition is on",
    Code.DOOR_OPEN: "a door, the boot or a window is open",
    Code.WRONG_RENTAL: "the order names another rental than the car has",
    Code.STATE_VERSION: "the car has changed since the sender saw it",
    Code.KEY_OR_CARD_MISSING: "key or fuel card is not in its holder",
    Code.LOW_VOLTAGE: "the 12 V supply is low",
    Code.OUT_OF_ZONE: "the car is outside the area where a rental may end",
    Code.WRONG_MODE: "the mode does not allow it",
    Code.PIN_REQUIRED: "the PIN was not typed since the doors were opened",
    Code.BUSY: "an actuation is under way",
    Code.ACTUATOR_TIMEOUT: "the board did not read back that anything moved",
    Code.ACTUATOR_FAULT: "the board refused",
    Code.BUS_ERROR: "the board is silent, or something that is needed does not work",
    Code.INDETERMINATE_AFTER_REBOOT: "the agent went down while it was under way",
    Code.RATE_LIMITED: "there was such an order less than a minute before",
    Code.STORAGE_FULL: "the disk has too little room to record it to its end",
    Code.STORAGE_CORRUPT: "the disk takes nothing",
    Code.EXPIRED: "its time was over",
    Code.UNKNOWN_OPCODE: "this car does not carry out such orders",
    Code.BAD_PARAM: "a field of it has no meaning here",
    Code.INTERNAL: "the car could not make a key",
}

_CARDS: Final = {
    CardRefusal.NO_RESERVATION: "nobody has reserved the car and no grant names the "
    "card; if it could be rented, the fleet was asked",
    CardRefusal.NOT_FOR_THIS_RENTAL: "the card is none of this rental's",
    CardRefusal.ENGINE_RUNNING: "engine or ignition is on, or the car moves",
    CardRefusal.DOOR_OPEN: "a door, the boot or a window is open",
    CardRefusal.NOT_READY: "something is missing or does not work",
    CardRefusal.UNSUPPORTED_CARD: "no card has a UID of this length",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One step in words."""

    number: int
    """Of the step in its run of the agent."""
    boot_ms: int
    """When, on the boot clock."""
    wall_ms: int
    """When, as the wall clock had it."""
    happened: str
    """What."""
    because: tuple[str, ...]
    """The chain of reasons, in order."""
    did: tuple[str, ...]
    """What followed."""


def explain(step: Replayed) -> Explanation:
    """Return why the car did what it did at a step."""
    kept = step.step
    return Explanation(
        number=kept.number,
        boot_ms=kept.now.boot_ms,
        wall_ms=kept.now.wall_ms,
        happened=tell_event(kept.event),
        because=tuple(_reasons(step)),
        did=tuple(_deeds(step)),
    )


def tell_event(event: Event) -> str:  # noqa: C901, PLR0911 - one for each event
    """Return what happened, in words and without anything that identifies a person."""
    match event:
        case CardPresented():
            return "a card was held to the reader"
        case CommandReceived(command=command, msg_id=msg_id, key_id=key_id):
            name = OPCODE_OF[type(command)].name
            return f"order {name} {msg_id.hex()} came, signed by key {key_id.hex()}"
        case AgentStarted(boot_counter=count, same_boot=same_boot):
            what = "the agent" if same_boot else "the computer"
            return f"{what} started, start {count}"
        case BoardReported(reading=reading):
            parts = (
                "locked" if reading.locked else "unlocked",
                "a door open" if reading.door_open else "doors closed",
                "engine on" if reading.engine_running else "engine off",
                "released" if reading.engine_released else "held",
            )
            return f"the board reported: {', '.join(parts)}"
        case BoardRefused(reason=reason):
            return f"the board refused: {reason.value}"
        case PinChecked(verdict=verdict):
            return f"the PIN was compared: {verdict.value}"
        case MenuChosen(choice=choice):
            return f"the driver chose {choice.name.lower().replace('_', ' ')}"
        case ConfigurationTold(kind=kind):
            return f"configuration {kind} counts from now on"
        case LedgerReplaced():
            return "the ledger was damaged or lost, and another one began"
        case RoomChanged(room=room):
            return f"the disk has room for {room.value}"
        case DeadlineReached():
            return "an instant came that the car waited for"
        case _:
            return _spaced(type(event).__name__)


def _spaced(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


# -- why ------------------------------------------------------------------------------


def _reasons(step: Replayed) -> Iterator[str]:
    before, event = step.before, step.step.event
    yield _standing(before)
    if isinstance(event, CardPresented):
        yield from _reasons_of_card(step, event)
    for result in _results(step):
        if result.code is not Code.OK:
            yield f"{result.code.name}: {_words_of(result.code)}"
    mode = before.mode
    for trigger in step.decision.triggers:
        after = next_mode(mode, trigger)
        yield f"the table leads from {mode.name} to {after.name}: {trigger.value}"
        mode = after
    if step.decision.illegal is not None:
        yield f"the table does not allow it: {step.decision.illegal}"
    if any(isinstance(action, ShowLight) for action in step.decision.actions):
        yield f"the indicator follows its rule: {_lamp_words(step.decision.state)}"


def _standing(state: State) -> str:
    reason = reason_of(state)
    text = f"the car was {state.mode.name}"
    if state.rental_id is not None:
        text += f" for rental {state.rental_id.hex()}"
    if reason.condition is not Condition.OK:
        text += f", condition {reason.condition.name}: {reason.words}"
    if not state.room.takes_rental:
        text += f"; its disk had room for {state.room.value}"
    return text


def _reasons_of_card(step: Replayed, event: CardPresented) -> Iterator[str]:
    before = step.before
    last, now_ms = before.tap, step.step.now.boot_ms
    if (
        last is not None
        and last.uid == event.uid
        and (now_ms - last.at_ms < DEBOUNCE_MS)
    ):
        yield "the same card again at once is still the same tap (I-14)"
        return
    if before.pending is not None:
        yield "an actuation was under way, and a tap does not disturb it"
        return
    matched = [
        rental_id
        for rental_id, digest in known_cards(before)
        if card_digest(rental_id, event.uid) == digest
    ]
    grants = [
        grant
        for grant in before.grants
        if card_digest(grant.rental_id, event.uid) == grant.card
    ]
    if before.rental_id in matched:
        yield "the card is one of this rental's"
    for grant in grants:
        rights = " and ".join(
            each.name.lower() for each in Rights if each & grant.rights and each.name
        )
        yield f"grant {grant.grant_id.hex()} lets the card {rights}"
    if not matched:
        yield "no rental and no grant of the car knows the card"
    for refusal in _card_refusals(step):
        yield f"{refusal.name}: {_CARDS[refusal]}"


def _card_refusals(step: Replayed) -> Iterator[CardRefusal]:
    """Yield why a card was refused, also where the ledger was spared a line (I-20)."""
    told = replace(step.before, refusal_told_ms=None)
    decision = handle(told, step.step.event, now=step.step.now)
    for entry in decision.entries:
        if isinstance(entry, CardRefused):
            yield entry.reason


def _results(step: Replayed) -> list[Result]:
    decision = step.decision
    return [
        *(entry for entry in decision.entries if isinstance(entry, Result)),
        *(
            action.result
            for action in decision.actions
            if isinstance(action, SendRefusal)
        ),
    ]


def _words_of(code: Code) -> str:
    return _CODES.get(code, "see docs/protocol.md, codes")


def _lamp_words(state: State) -> str:
    rule = lamp_rule_of(state)
    light = state.shown_light.name.lower().replace("_", " ")
    blinking = "blinking " if state.shown_blinking else ""
    words = f"mode {state.mode.name}" if rule.light is None else rule.words
    return f"{blinking}{light}, because {words}"


# -- what followed --------------------------------------------------------------------


def _deeds(step: Replayed) -> Iterator[str]:
    for action in step.decision.actions:
        yield _tell_action(action)
    for entry in step.decision.entries:
        if isinstance(entry, Result):
            yield f"answered {entry.request_id.hex()} with {entry.code.name}"
        else:
            yield f"wrote {TYPE_OF[type(entry)].name} to the ledger"


def _tell_action(action: Action) -> str:  # noqa: PLR0911 - one for each action
    match action:
        case DriveLocks(locked=locked):
            return f"asked the board to {'lock' if locked else 'unlock'} the doors"
        case AllowEngine(released=released):
            return f"asked the board to {'release' if released else 'hold'} the engine"
        case ShowLight(light=light, blinking=blinking):
            how = "blinking " if blinking else ""
            return f"showed {how}{light.name.lower().replace('_', ' ')}"
        case ShowPrompt(prompt=prompt):
            return f"showed the screen {prompt.key.name}"
        case FlashHazards(seconds=seconds):
            return f"let the hazard lights blink for {seconds} s"
        case CheckPin():
            return "had the PIN compared"
        case RestartPart(component=component):
            return f"started the {component.name.lower()} anew"
        case RestartMachine():
            return "had the computer started anew"
        case SendRefusal(result=result):
            request_id, code = result.request_id.hex(), result.code.name
            return f"refused {request_id} with {code}"
