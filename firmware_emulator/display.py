"""The display port in memory: remembers what it shows, types what it is told to.

The gateway says a key and numbers (`gateway.core.prompts`); the words are the
display's. The fuel card's PIN stands on it as long as its prompt does, and is not in
what it remembers (H6).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_emulator.clock import EmulatedClock
from firmware_emulator.witness import Witness
from gateway.core.events import Choice, MenuChosen, PinEntered
from gateway.core.prompts import NO_PROMPT, Prompt, PromptKey
from gateway.ports import Report

REMEMBERED: Final = 1_000
"""Prompts kept; a day of random life shows about 100."""

_WORDS: Final[dict[PromptKey, str]] = {
    PromptKey.NONE: "",
    PromptKey.WELCOME: "Welcome",
    PromptKey.ENTER_PIN: "Please enter your PIN ({0} attempts)",
    PromptKey.PIN_WRONG: "Wrong PIN, {0} attempts left",
    PromptKey.PIN_BLOCKED: "Too many wrong PINs: please wait",
    PromptKey.PIN_BLOCKED_FOR_GOOD: "PIN entry is blocked: please call us",
    PromptKey.PIN_MALFORMED: "A PIN has 4 to 8 digits",
    PromptKey.MAY_START: "You may start the engine",
    PromptKey.ENERGY_LOW: "{0} % left: refuelling earns you 30 minutes",
    PromptKey.CHOOSE_NEXT: "End the rental, park, or refuel?",
    PromptKey.LOCK_TO_PARK: "Lock the car to park",
    PromptKey.LOCK_TO_END: "Lock the car to end the rental",
    PromptKey.FUEL_CARD_PIN: "Fuel card in the armrest, its PIN: {secret}",
    PromptKey.CLOSE_DOORS: "Please close doors and boot",
    PromptKey.RETURN_KEY: "Please put the key into its holder",
    PromptKey.RETURN_FUEL_CARD: "Please put the fuel card into its holder",
    PromptKey.NOT_NOW: "Not possible now",
    PromptKey.PAYMENT_NOTED: "Payment by fuel card noted, thank you",
    PromptKey.ENGINE_HELD: "The engine is held, please call us",
    PromptKey.RENTAL_ENDED: "Your rental has ended, thank you",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A prompt that was on the display."""

    prompt: Prompt
    """What it said."""
    at_ms: int
    """The world's time when it came up."""


class EmulatedDisplay:
    """Implements `gateway.ports.Display`."""

    def __init__(self, clock: EmulatedClock, witness: Witness) -> None:
        """Mount an empty display."""
        self._clock = clock
        self._witness = witness
        self._report: Report | None = None
        self._secret = ""
        self.prompt: Prompt = NO_PROMPT
        """What stands on the display."""
        self.history: list[Shown] = []
        """What was shown, oldest first, without secrets."""

    async def run(self, report: Report) -> None:
        """Report `PinEntered` and `MenuChosen` until cancelled."""
        self._report = report
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._report = None
            self.prompt, self._secret = NO_PROMPT, ""

    async def show(self, prompt: Prompt, *, secret: str) -> None:
        """Show a prompt and forget the secret of the one before."""
        self.prompt, self._secret = prompt, secret
        self.history.append(Shown(prompt, self._clock.elapsed_ms))
        del self.history[:-REMEMBERED]
        self._witness.notice()

    @property
    def words(self) -> str:
        """What a driver reads now, the fuel card's PIN included."""
        return words_of(self.prompt, secret=self._secret)

    @property
    def fuel_card_pin(self) -> str:
        """The fuel card's PIN while it is shown, else empty."""
        return self._secret

    def type_pin(self, pin: str) -> bool:
        """Type a PIN and confirm; return whether the display was alive to take it."""
        return self._say(lambda: PinEntered(pin))

    def choose(self, choice: Choice) -> bool:
        """Choose in the menu; return whether the display was alive to take it."""
        return self._say(lambda: MenuChosen(choice))

    def _say(self, event: Callable[[], PinEntered | MenuChosen]) -> bool:
        if self._report is None:
            return False
        self._report(event())
        return True


def words_of(prompt: Prompt, *, secret: str = "") -> str:
    """Return the English words of a prompt, without the secret unless it is given."""
    # A prompt with fewer numbers than its words have places still shows its words.
    numbers = (*prompt.numbers, "?", "?")
    return _WORDS[prompt.key].format(*numbers, secret=secret or "****")
