"""What the display says, as data: a key and numbers, no sentences.

The display turns keys into a language's words. What is shown follows from the state,
as the indicator does, so that a display which was away shows the right thing again.
"""

from dataclasses import dataclass
from enum import Enum, unique


@unique
class PromptKey(Enum):
    """Which text of the catalogue."""

    NONE = "none"
    WELCOME = "welcome"
    ENTER_PIN = "enter-pin"
    PIN_WRONG = "pin-wrong"
    PIN_BLOCKED = "pin-blocked"
    PIN_BLOCKED_FOR_GOOD = "pin-blocked-for-good"
    PIN_MALFORMED = "pin-malformed"
    ENGINE_HELD = "engine-held"
    MAY_START = "may-start"
    ENERGY_LOW = "energy-low"
    CHOOSE_NEXT = "choose-next"
    LOCK_TO_PARK = "lock-to-park"
    LOCK_TO_END = "lock-to-end"
    FUEL_CARD_PIN = "fuel-card-pin"
    CLOSE_DOORS = "close-doors"
    RETURN_KEY = "return-key"
    RETURN_FUEL_CARD = "return-fuel-card"
    NOT_NOW = "not-now"
    PAYMENT_NOTED = "payment-noted"
    RENTAL_ENDED = "rental-ended"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text and its numbers."""

    key: PromptKey
    """Which text."""
    numbers: tuple[int, ...] = ()
    """Attempts left, seconds, percent: what the text's places stand for."""
    sealed: bytes = b""
    """Sealed secrets that the display needs, for FUEL_CARD_PIN only (H6)."""
    rental_id: bytes = b""
    """The rental that the secrets are sealed to."""


NO_PROMPT = Prompt(PromptKey.NONE)
"""An empty display."""
