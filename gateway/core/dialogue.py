"""Which screen the display shows: a function of the state, as the indicator is (I-16).

Each asker looks at the state and says what it would show, or nothing; the first that
says something has the display. A further screen is a further asker, put where it
belongs in `_ASKERS`, with a row in `gateway.core.screens.SCREENS`. Answers are taken by
`gateway.core.answers`.
"""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.core.appearance import (
    LOW_ENERGY_PCT,
    PIN_ATTEMPTS,
    PIN_BLOCKS,
    SHORT_RANGE_KM,
)
from gateway.core.bearing import compass_of, distance_m, shown_m
from gateway.core.ending import missing_to_end
from gateway.core.prompts import (
    NO_PROMPT,
    Choice,
    Form,
    Line,
    LineKey,
    Prompt,
    PromptKey,
    term_of,
)
from gateway.core.screens import SCREENS
from gateway.core.state import (
    HandoverStage,
    Inspection,
    PaymentStage,
    PinGuard,
    Rental,
    State,
)
from gateway.core.stations import known_station, nearest
from protocol.codes import EnergyKind, LockDefault, RentalMode
from protocol.damage_list import Damage

Asker = Callable[[State, Rental], Prompt | None]
"""Says what it would show in this state of a rental, None for nothing."""

_OF_ELECTRIC: Final = MappingProxyType(
    {
        PromptKey.ENERGY_LOW: PromptKey.CHARGE_LOW,
        PromptKey.CHOOSE_NEXT: PromptKey.CHOOSE_NEXT_ELECTRIC,
        PromptKey.OFFER_REFUEL: PromptKey.OFFER_CHARGE,
    }
)
"""Screens that say it otherwise in a car that is charged (H13)."""

ENGLISH: Final = b"en"
"""What the display speaks when nobody has said what the customer speaks."""


def prompt_of(state: State) -> Prompt:
    """Return what the display says: a passing word, else the screen."""
    return screen_of(state) if state.notice_until_ms is None else state.notice


def screen_of(state: State) -> Prompt:
    """Return the screen that stands, also while a passing word covers it."""
    rental = state.rental
    if rental is None:
        return NO_PROMPT
    asked = (asker(state, rental) for asker in _ASKERS)
    prompt = next((each for each in asked if each is not None), NO_PROMPT)
    if prompt.key in _OF_ELECTRIC and _is_electric(state):
        prompt = replace(prompt, key=_OF_ELECTRIC[prompt.key])
    language = language_of(state)
    return prompt if language == ENGLISH else replace(prompt, language=language)


def card_term(state: State) -> str:
    """Return the term for the payment card that the car keeps (C17, H13)."""
    return term_of(EnergyKind.ELECTRIC if _is_electric(state) else EnergyKind.FUEL)


def _is_electric(state: State) -> bool:
    kind = None if state.reading is None else state.reading.energy_kind
    return kind is EnergyKind.ELECTRIC


def is_offered(state: State, choice: Choice) -> bool:
    """Return whether the standing screen has this choice in its menu."""
    return choice in SCREENS[screen_of(state).key].offers


def is_asked(state: State, form: Form) -> bool:
    """Return whether the standing screen asks for this to be filled in."""
    return form in SCREENS[screen_of(state).key].forms


def language_of(state: State) -> bytes:
    """Return the language of who is at the wheel, two letters."""
    held = state.reservation if state.rental is None else state.rental.reservation
    if held is None:
        return ENGLISH
    handover = None if state.rental is None else state.rental.handover
    if handover is not None and handover.stage is HandoverStage.AT_WHEEL:
        return terms_of(state, handover.offer_id)[1]
    return held.language


def terms_of(state: State, rental_id: bytes) -> tuple[LockDefault, bytes]:
    """Return lock default and language of a rental that has not begun (C28).

    They come with its grant; without one nobody has said what the customer speaks.
    """
    grants = (each for each in state.grants if each.rental_id == rental_id)
    grant = next(grants, None)
    if grant is None:
        return LockDefault.END, ENGLISH
    return grant.lock_default, grant.language


def _visit(state: State, rental: Rental) -> Prompt | None:
    """Show how to pay, while the car is at a station or charger (C17, C19, H2)."""
    visit, payment = rental.refuelling, rental.payment
    if state.mode is not RentalMode.REFUELLING or visit is None:
        return None
    if visit.asks_pump:
        return Prompt(PromptKey.PUMP_NUMBER)
    stage = payment.stage if visit.online and payment is not None else None
    if stage is PaymentStage.PAID:
        return Prompt(PromptKey.PAYMENT_DONE)
    return Prompt(
        _unpaid(stage, is_online=state.online),
        terms=(card_term(state),),
        sealed=rental.reservation.sealed,
        rental_id=rental.reservation.rental_id,
    )


def _unpaid(stage: PaymentStage | None, *, is_online: bool) -> PromptKey:
    """Return by which screen the driver can pay; the card is offered on each (H2).

    A fleet that cannot be reached cannot answer now. What it said meanwhile comes when
    it is back, and nothing but the screen depends on that.
    """
    if stage is PaymentStage.PENDING and is_online:
        return PromptKey.PAYMENT_PENDING
    if stage in {PaymentStage.PENDING, PaymentStage.FALLBACK}:
        return PromptKey.PAY_BY_CARD
    return PromptKey.FUEL_CARD_PIN


def _second_driver(state: State, rental: Rental) -> Prompt | None:
    handover = rental.handover
    if handover is None or handover.stage is not HandoverStage.AT_WHEEL:
        return None
    if state.mode is not RentalMode.STOPPED:
        return None
    return Prompt(PromptKey.HANDOVER_PIN, (PIN_ATTEMPTS - handover.wrong,))


def _search(state: State, rental: Rental) -> Prompt | None:
    search = rental.search
    shown = state.mode in {RentalMode.DRIVING, RentalMode.STOPPED}
    if search is None or not shown:
        return None
    return Prompt(
        PromptKey.HANDOVER_REQUEST, (search.distance_m,), words=(search.name,)
    )


def _low_energy(state: State, rental: Rental) -> Prompt | None:
    level = _low_level(state)
    if state.mode is not RentalMode.DRIVING or level is None:
        return None
    lines = (*nearest(state), *_meeting(state, rental))
    return Prompt(PromptKey.ENERGY_LOW, (level,), lines=lines)


def _low_level(state: State) -> int | None:
    """Return the level if it is low, else None (C14)."""
    level = None if state.reading is None else state.reading.energy_pct
    return level if level is not None and level < LOW_ENERGY_PCT else None


def _low_lines(state: State) -> tuple[Line, ...]:
    """Say it to a driver who stands, too: before the drive and when it is over."""
    level = _low_level(state)
    if level is None:
        return ()
    key = LineKey.CHARGE_LOW if _is_electric(state) else LineKey.ENERGY_LOW
    return (Line(key, (level,)), *nearest(state))


def _handover_ahead(state: State, rental: Rental) -> Prompt | None:
    """Show the way to who takes the car over (F14)."""
    if state.mode is not RentalMode.DRIVING or rental.handover is None:
        return None
    return Prompt(PromptKey.HANDOVER_AHEAD, lines=_meeting(state, rental))


def _second_card(state: State, rental: Rental) -> tuple[Line, ...]:
    """Say to a driver who stands how the car is handed over (H11)."""
    if rental.handover is None:
        return ()
    return (Line(LineKey.SECOND_CARD), *_meeting(state, rental))


def _meeting(state: State, rental: Rental) -> tuple[Line, ...]:
    """Say where both drivers meet, if anybody knows where the car is."""
    handover, position = rental.handover, state.position
    if handover is None or position is None:
        return ()
    place = handover.latitude_e7, handover.longitude_e7
    away_m = shown_m(distance_m(position, *place))
    if away_m == 0:
        return (Line(LineKey.MEETING_HERE),)
    compass = term_of(compass_of(position, *place))
    return (Line(LineKey.MEETING, (away_m,), terms=(compass,)),)


def _chosen(state: State, rental: Rental) -> Prompt | None:
    if state.mode is not RentalMode.STOPPED or rental.parking_chosen is None:
        return None
    if rental.parking_chosen:
        return Prompt(PromptKey.LOCK_TO_PARK, lines=_open_window(state))
    missing = _missing_inside(state)
    if missing:
        return Prompt(PromptKey.MISSING_TO_END, lines=missing)
    lines = (*_short_range(state), *_open_window(state))
    return Prompt(PromptKey.LOCK_TO_END, lines=lines)


def _missing_inside(state: State) -> tuple[Line, ...]:
    """Say what is missing to end before the driver gets out for nothing (H20).

    But not the doors, which have to be opened for that.
    """
    keys = missing_to_end(state, state.reading_at_ms)
    return tuple(Line(key) for key in keys if key is not LineKey.MISSING_DOORS)


def _open_window(state: State) -> tuple[Line, ...]:
    """Remind who is about to lock; an open window hinders nothing."""
    is_open = state.reading is not None and state.reading.window_open
    return (Line(LineKey.WINDOW_OPEN),) if is_open else ()


def _short_range(state: State) -> tuple[Line, ...]:
    """Warn who is about to end with too little left, since it costs (B21, H4)."""
    range_km = None if state.reading is None else state.reading.range_km
    if range_km is None or range_km > SHORT_RANGE_KM:
        return ()
    return (Line(LineKey.SHORT_RANGE, (range_km, SHORT_RANGE_KM)),)


def _reporting(state: State, rental: Rental) -> Prompt | None:
    if state.mode is not RentalMode.STOPPED or not rental.reporting:
        return None
    return Prompt(PromptKey.REPORT_DAMAGE)


def _planning(state: State, rental: Rental) -> Prompt | None:
    """Ask where the way ends, for the offer to hand over there (C31)."""
    if state.mode is not RentalMode.STOPPED or not rental.planning:
        return None
    return Prompt(PromptKey.DESTINATION)


def _inspection(state: State, rental: Rental) -> Prompt | None:
    if state.mode is not RentalMode.STOPPED or rental.inspection is Inspection.DONE:
        return None
    if rental.inspection is Inspection.CLEANLINESS:
        return Prompt(PromptKey.RATE_CLEANLINESS)
    known = state.facts.known_damage
    if not known:
        return Prompt(PromptKey.NO_KNOWN_DAMAGE)
    return Prompt(
        PromptKey.KNOWN_DAMAGE, (len(known),), lines=tuple(map(_damage, known))
    )


def _damage(known: Damage) -> Line:
    terms = (term_of(known.place), term_of(known.kind))
    return Line(LineKey.DAMAGE, words=(known.note,), terms=terms)


def _blocked(state: State, rental: Rental) -> Prompt | None:
    """Say that no PIN counts now, before questions under which it could be typed."""
    entry = _pin_entry(rental.pin)
    asked = state.mode is RentalMode.STOPPED and not rental.pin_accepted
    return entry if asked and entry.key is not PromptKey.ENTER_PIN else None


def _pin(state: State, rental: Rental) -> Prompt | None:
    if state.mode is not RentalMode.STOPPED:
        return None
    if rental.held:
        return Prompt(PromptKey.ENGINE_HELD)
    return None if rental.pin_accepted else _pin_entry(rental.pin)


def _pin_entry(guard: PinGuard) -> Prompt:
    if guard.blocks >= PIN_BLOCKS:
        return Prompt(PromptKey.PIN_BLOCKED_FOR_GOOD)
    if guard.blocked_until_ms is not None:
        return Prompt(PromptKey.PIN_BLOCKED)
    return Prompt(PromptKey.ENTER_PIN, (PIN_ATTEMPTS - guard.wrong,))


def _at_station(state: State, rental: Rental) -> Prompt | None:
    """Offer to refuel rather than to park or to end (C18)."""
    station = known_station(state, rental.station)
    if state.mode is not RentalMode.STOPPED or not rental.driven or station is None:
        return None
    lines = _second_card(state, rental)
    return Prompt(PromptKey.OFFER_REFUEL, words=(station.name,), lines=lines)


def _what_next(state: State, rental: Rental) -> Prompt | None:
    if state.mode is not RentalMode.STOPPED or not rental.driven:
        return None
    default = rental.reservation.lock_default
    short = _short_range(state) if default is LockDefault.END else ()
    lines = (*_second_card(state, rental), *short, *_low_lines(state))
    return Prompt(PromptKey.CHOOSE_NEXT, terms=(term_of(default),), lines=lines)


def _may_start(state: State, rental: Rental) -> Prompt | None:
    if state.mode is not RentalMode.STOPPED:
        return None
    released = state.reading is not None and state.reading.engine_released
    if not released:
        return Prompt(PromptKey.WAIT)
    due = tuple(
        Line(LineKey.SERVICE_DUE, terms=(term_of(kind),))
        for kind in sorted(state.needs)
    )
    lines = (*_second_card(state, rental), *due, *_low_lines(state))
    return Prompt(PromptKey.MAY_START, lines=lines)


_ASKERS: Final[tuple[Asker, ...]] = (
    _second_driver,
    _search,
    _visit,
    _low_energy,
    _handover_ahead,
    _reporting,
    _planning,
    _chosen,
    _blocked,
    _inspection,
    _pin,
    _at_station,
    _what_next,
    _may_start,
)
"""In the order in which they are asked."""
