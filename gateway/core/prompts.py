"""What the display says and asks, as data: a key, numbers and names, no sentences.

The display turns keys into a language's words (`gateway.catalogue`). What is shown
follows from the state, as the indicator does, so that a display which was away shows
the right thing again. What can be answered to it stands in `gateway.core.screens`.
"""

from dataclasses import dataclass
from enum import Enum, unique


@unique
class PromptKey(Enum):
    """Which text of the catalogue."""

    NONE = "none"
    KNOWN_DAMAGE = "known-damage"
    NO_KNOWN_DAMAGE = "no-known-damage"
    RATE_CLEANLINESS = "rate-cleanliness"
    RATING_MALFORMED = "rating-malformed"
    REPORT_DAMAGE = "report-damage"
    DAMAGE_MALFORMED = "damage-malformed"
    DAMAGE_NOTED = "damage-noted"
    REPORTS_FULL = "reports-full"
    ENTER_PIN = "enter-pin"
    PIN_WRONG = "pin-wrong"
    PIN_BLOCKED = "pin-blocked"
    PIN_BLOCKED_FOR_GOOD = "pin-blocked-for-good"
    PIN_MALFORMED = "pin-malformed"
    PIN_FIRST = "pin-first"
    ENGINE_HELD = "engine-held"
    WAIT = "wait"
    MAY_START = "may-start"
    ENERGY_LOW = "energy-low"
    CHARGE_LOW = "charge-low"
    CHOOSE_NEXT = "choose-next"
    CHOOSE_NEXT_ELECTRIC = "choose-next-electric"
    OFFER_REFUEL = "offer-refuel"
    OFFER_CHARGE = "offer-charge"
    LOCK_TO_PARK = "lock-to-park"
    LOCK_TO_END = "lock-to-end"
    FUEL_CARD_PIN = "fuel-card-pin"
    PUMP_NUMBER = "pump-number"
    PUMP_MALFORMED = "pump-malformed"
    PLUG_IN = "plug-in"
    PAYMENT_UNAVAILABLE = "payment-unavailable"
    PAYMENT_PENDING = "payment-pending"
    PAYMENT_DONE = "payment-done"
    PAYMENT_REFUSED = "payment-refused"
    PAYMENT_UNANSWERED = "payment-unanswered"
    PAY_BY_CARD = "pay-by-card"
    CLOSE_DOORS = "close-doors"
    SWITCH_OFF = "switch-off"
    MISSING_TO_END = "missing-to-end"
    NOT_NOW = "not-now"
    TRY_AGAIN = "try-again"
    OTHER_CARD = "other-card"
    SERVICE_DUE = "service-due"
    PAYMENT_NOTED = "payment-noted"
    RENTAL_ENDED = "rental-ended"
    END_NOT_STORED = "end-not-stored"
    HANDOVER_REQUEST = "handover-request"
    HANDOVER_AHEAD = "handover-ahead"
    HANDOVER_PIN = "handover-pin"
    HANDOVER_OFFERED = "handover-offered"
    HANDOVER_ACCEPTED = "handover-accepted"
    HANDOVER_AGREED = "handover-agreed"
    HANDOVER_OVER = "handover-over"
    DESTINATION = "destination"
    DESTINATION_MALFORMED = "destination-malformed"
    MESSAGE_CALL_US = "message-call-us"
    MESSAGE_BRING_BACK = "message-bring-back"
    MESSAGE_PARK_AT = "message-park-at"
    MESSAGE_HELP_COMES = "message-help-comes"
    MESSAGE_DRIVE_NO_MORE = "message-drive-no-more"


@unique
class Choice(Enum):
    """What a driver can choose at the display."""

    PARK = "park"
    END = "end"
    REFUEL = "refuel"
    REFUEL_DONE = "refuel done"
    PAID_BY_CARD = "paid by card"
    PAY_ONLINE = "pay online"
    CONTINUE = "continue"
    REPORT_DAMAGE = "report damage"
    BACK = "back"
    OFFER_HANDOVER = "offer handover"
    PLAN_HANDOVER = "plan handover"
    ACCEPT_HANDOVER = "accept handover"
    DECLINE_HANDOVER = "decline handover"


@unique
class Form(Enum):
    """What a driver can be asked to fill in; an event of its own answers each."""

    PIN = "pin"
    """Answered by `gateway.core.events.PinEntered`."""
    RATING = "rating"
    """Answered by `gateway.core.events.RatingEntered`."""
    DAMAGE = "damage"
    """Answered by `gateway.core.events.DamageEntered`."""
    PUMP = "pump"
    """Answered by `gateway.core.events.PumpEntered`."""
    DESTINATION = "destination"
    """Answered by `gateway.core.events.DestinationEntered`."""


@unique
class LineKey(Enum):
    """Which text of the catalogue a line of a list has."""

    DAMAGE = "damage"
    """Terms: place and kind; words: the note, which may be empty."""
    MISSING_ENGINE = "missing-engine"
    MISSING_DOORS = "missing-doors"
    MISSING_BOOT = "missing-boot"
    MISSING_KEY = "missing-key"
    MISSING_FUEL_CARD = "missing-fuel-card"
    MISSING_AREA = "missing-area"
    SERVICE_DUE = "service-due"
    """Terms: which service."""
    WINDOW_OPEN = "window-open"
    SHORT_RANGE = "short-range"
    """Numbers: what is left and what must be more, km."""
    ENERGY_LOW = "energy-low"
    """Numbers: what is left, percent."""
    CHARGE_LOW = "charge-low"
    """The same of an electric car."""
    STATION = "station"
    """Words: its name; numbers: how far it is, m; terms: in which direction."""
    STATION_HERE = "station-here"
    """Words: its name."""
    SECOND_CARD = "second-card"
    MEETING = "meeting"
    """Numbers: how far it is, m; terms: in which direction."""
    MEETING_HERE = "meeting-here"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list that stands below a prompt's text."""

    key: LineKey
    """Which text."""
    numbers: tuple[int, ...] = ()
    """What its places {0}, {1} stand for."""
    words: tuple[str, ...] = ()
    """Names and notes in nobody's language: {word0}, {word1}."""
    terms: tuple[str, ...] = ()
    """Of the catalogue, by `term_of`: {term0}, {term1}."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text, what its places stand for, and a list below it."""

    key: PromptKey
    """Which text."""
    numbers: tuple[int, ...] = ()
    """Attempts left, seconds, percent: the places {0}, {1}."""
    sealed: bytes = b""
    """Sealed secrets that the display needs for the fuel card's PIN (H6)."""
    rental_id: bytes = b""
    """The rental that the secrets are sealed to."""
    words: tuple[str, ...] = ()
    """Names and notes in nobody's language: {word0}, {word1}."""
    terms: tuple[str, ...] = ()
    """Of the catalogue, by `term_of`: {term0}, {term1}."""
    lines: tuple[Line, ...] = ()
    """Stations, damages, what is missing."""
    language: bytes = b"en"
    """Two letters: what the customer speaks."""


NO_PROMPT = Prompt(PromptKey.NONE)
"""An empty display."""


def term_of(code: Enum) -> str:
    """Return the name under which a catalogue has the words for a code.

    Args:
        code: of a code space of the protocol, or a direction.
    """
    return f"{type(code).__name__}.{code.name}"
