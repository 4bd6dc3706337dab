"""The display port in memory: remembers what it shows, types what it is told to.

The gateway says keys and numbers (`gateway.core.prompts`); the words are those of
`gateway.catalogue`. The fuel card's PIN stands on it as long as its prompt does, and is
not in what it remembers (H6).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_emulator.clock import EmulatedClock
from firmware_emulator.witness import Witness
from gateway.catalogue.words import HIDDEN, menu_of, words_of
from gateway.core.events import (
    DamageEntered,
    DestinationEntered,
    Event,
    MenuChosen,
    PinEntered,
    PumpEntered,
    RatingEntered,
)
from gateway.core.prompts import NO_PROMPT, Choice, Prompt
from gateway.ports import Report

FilledIn = RatingEntered | DamageEntered | PumpEntered | DestinationEntered
"""A form that a driver has filled in."""

REMEMBERED: Final = 1_000
"""Prompts kept; a day of random life shows about 100."""


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
        return words_of(self.prompt, secret=self._secret or HIDDEN)

    @property
    def public_words(self) -> str:
        """The same without the fuel card's PIN, for logs (H6)."""
        return words_of(self.prompt)

    @property
    def menu(self) -> tuple[str, ...]:
        """What can be filled in and chosen now, in words."""
        return menu_of(self.prompt)

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

    def fill_in(self, form: FilledIn) -> bool:
        """Fill in a form and confirm; return whether the display took it."""
        return self._say(lambda: form)

    def _say(self, event: Callable[[], Event]) -> bool:
        if self._report is None:
            return False
        self._report(event())
        return True
