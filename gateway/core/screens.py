"""What can be answered to what the display asks: one table that a person can read.

A choice or a form counts only while the screen that offers it stands, so a menu that
somebody left open, or a display that makes things up, decides nothing. A passing word
(a notice) covers a screen for seconds and takes nothing of it away. Whether the car's
state allows what is chosen is decided by `gateway.core.answers`, not here.

Each row also says which places its text has; the catalogues are checked against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.core.prompts import Choice, Form, LineKey, PromptKey


@dataclass(frozen=True, slots=True)
class Screen:
    """What one prompt offers, and what its text is filled with."""

    offers: tuple[Choice, ...] = ()
    """What can be chosen, in the order of the menu."""
    forms: tuple[Form, ...] = ()
    """What can be filled in."""
    numbers: int = 0
    """How many numbers it has."""
    words: int = 0
    """How many names."""
    terms: int = 0
    """How many terms of the catalogue."""
    has_secret: bool = False
    """Whether the fuel card's PIN stands in it."""


_MENU: Final = (
    Choice.END,
    Choice.PARK,
    Choice.REFUEL,
    Choice.REPORT_DAMAGE,
    Choice.OFFER_HANDOVER,
    Choice.PLAN_HANDOVER,
)
_BEFORE_PIN: Final = tuple(each for each in _MENU if each is not Choice.REFUEL)
"""Without the PIN nobody comes to the fuel card's (H6)."""
_AT_STATION: Final = (Choice.REFUEL, Choice.END, Choice.PARK, Choice.REPORT_DAMAGE)
_BOARDING: Final = (Choice.CONTINUE, Choice.REPORT_DAMAGE, Choice.END, Choice.PARK)

SCREENS: Final[Mapping[PromptKey, Screen]] = MappingProxyType(
    {
        # Screens: they stand as long as the state is so.
        # Also of a car that drives: who looks for a place to park may offer it (C32).
        PromptKey.NONE: Screen((Choice.OFFER_HANDOVER,)),
        PromptKey.HANDOVER_REQUEST: Screen(
            (Choice.ACCEPT_HANDOVER, Choice.DECLINE_HANDOVER), numbers=1, words=1
        ),
        PromptKey.HANDOVER_PIN: Screen(
            (Choice.DECLINE_HANDOVER,), (Form.PIN,), numbers=1
        ),
        PromptKey.KNOWN_DAMAGE: Screen(_BOARDING, (Form.PIN,), numbers=1),
        PromptKey.NO_KNOWN_DAMAGE: Screen(_BOARDING, (Form.PIN,)),
        PromptKey.RATE_CLEANLINESS: Screen(_BOARDING, (Form.RATING, Form.PIN)),
        PromptKey.REPORT_DAMAGE: Screen((Choice.BACK,), (Form.DAMAGE,)),
        PromptKey.DESTINATION: Screen((Choice.BACK,), (Form.DESTINATION,)),
        PromptKey.ENTER_PIN: Screen(_BEFORE_PIN, (Form.PIN,), numbers=1),
        PromptKey.PIN_BLOCKED: Screen(_BEFORE_PIN),
        PromptKey.PIN_BLOCKED_FOR_GOOD: Screen(_BEFORE_PIN),
        PromptKey.ENGINE_HELD: Screen((Choice.END, Choice.PARK, Choice.REPORT_DAMAGE)),
        PromptKey.WAIT: Screen(_MENU),
        PromptKey.MAY_START: Screen(_MENU),
        PromptKey.CHOOSE_NEXT: Screen(_MENU, terms=1),
        PromptKey.CHOOSE_NEXT_ELECTRIC: Screen(_MENU, terms=1),
        PromptKey.OFFER_REFUEL: Screen(_AT_STATION, words=1),
        PromptKey.OFFER_CHARGE: Screen(_AT_STATION, words=1),
        PromptKey.LOCK_TO_PARK: Screen(_MENU, (Form.PIN,)),
        PromptKey.LOCK_TO_END: Screen(_MENU, (Form.PIN,)),
        # A screen for who has chosen to end, a passing word for who tries to.
        PromptKey.MISSING_TO_END: Screen(_MENU, (Form.PIN,)),
        PromptKey.ENERGY_LOW: Screen((Choice.OFFER_HANDOVER,), numbers=1),
        PromptKey.CHARGE_LOW: Screen((Choice.OFFER_HANDOVER,), numbers=1),
        PromptKey.HANDOVER_AHEAD: Screen(),
        PromptKey.FUEL_CARD_PIN: Screen(
            (Choice.PAID_BY_CARD, Choice.PAY_ONLINE, Choice.REFUEL_DONE),
            terms=1,
            has_secret=True,
        ),
        PromptKey.PUMP_NUMBER: Screen((Choice.BACK,), (Form.PUMP,)),
        PromptKey.PAYMENT_PENDING: Screen(
            (Choice.PAID_BY_CARD,), terms=1, has_secret=True
        ),
        PromptKey.PAY_BY_CARD: Screen((Choice.PAID_BY_CARD,), terms=1, has_secret=True),
        PromptKey.PAYMENT_DONE: Screen((Choice.REFUEL_DONE,)),
        # Passing words: they cover a screen and offer nothing of their own.
        PromptKey.PIN_WRONG: Screen(numbers=1),
        PromptKey.PIN_MALFORMED: Screen(numbers=2),
        PromptKey.PIN_FIRST: Screen(),
        PromptKey.CLOSE_DOORS: Screen(),
        PromptKey.SWITCH_OFF: Screen(),
        PromptKey.RATING_MALFORMED: Screen(numbers=1),
        PromptKey.DAMAGE_MALFORMED: Screen(numbers=1),
        PromptKey.DAMAGE_NOTED: Screen(),
        PromptKey.REPORTS_FULL: Screen(),
        PromptKey.NOT_NOW: Screen(),
        PromptKey.TRY_AGAIN: Screen(),
        PromptKey.OTHER_CARD: Screen(),
        PromptKey.SERVICE_DUE: Screen(terms=1),
        PromptKey.PUMP_MALFORMED: Screen(numbers=1),
        PromptKey.PLUG_IN: Screen(),
        PromptKey.PAYMENT_UNAVAILABLE: Screen(terms=1),
        PromptKey.PAYMENT_REFUSED: Screen(terms=1),
        PromptKey.PAYMENT_UNANSWERED: Screen(terms=1),
        PromptKey.PAYMENT_NOTED: Screen(terms=1),
        PromptKey.RENTAL_ENDED: Screen(),
        PromptKey.END_NOT_STORED: Screen(),
        PromptKey.HANDOVER_OFFERED: Screen(),
        PromptKey.HANDOVER_ACCEPTED: Screen(),
        PromptKey.HANDOVER_AGREED: Screen(),
        PromptKey.HANDOVER_OVER: Screen(),
        PromptKey.DESTINATION_MALFORMED: Screen(numbers=1),
        PromptKey.MESSAGE_CALL_US: Screen(),
        PromptKey.MESSAGE_BRING_BACK: Screen(words=1),
        PromptKey.MESSAGE_PARK_AT: Screen(words=1),
        PromptKey.MESSAGE_HELP_COMES: Screen(words=1),
        PromptKey.MESSAGE_DRIVE_NO_MORE: Screen(),
    }
)
"""Every prompt's row."""

LINES: Final[Mapping[LineKey, Screen]] = MappingProxyType(
    {
        LineKey.DAMAGE: Screen(words=1, terms=2),
        LineKey.MISSING_ENGINE: Screen(),
        LineKey.MISSING_DOORS: Screen(),
        LineKey.MISSING_BOOT: Screen(),
        LineKey.MISSING_KEY: Screen(),
        LineKey.MISSING_FUEL_CARD: Screen(),
        LineKey.MISSING_AREA: Screen(),
        LineKey.SERVICE_DUE: Screen(terms=1),
        LineKey.WINDOW_OPEN: Screen(),
        LineKey.SHORT_RANGE: Screen(numbers=2),
        LineKey.ENERGY_LOW: Screen(numbers=1),
        LineKey.CHARGE_LOW: Screen(numbers=1),
        LineKey.STATION: Screen(numbers=1, words=1, terms=1),
        LineKey.STATION_HERE: Screen(words=1),
        LineKey.SECOND_CARD: Screen(),
        LineKey.MEETING: Screen(numbers=1, terms=1),
        LineKey.MEETING_HERE: Screen(),
    }
)
"""What the lines of lists are filled with; they offer nothing."""
