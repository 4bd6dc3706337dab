"""A display for a module that has none: prompts go to the log, lines come from a bench.

On a workbench the lines are typed at the terminal that `freefloat gateway run` was
started from; a service has no terminal and takes no input. A real screen and keypad is
another implementation of `gateway.ports.Display`.
"""

import asyncio
import logging
import os
from typing import Final

from gateway.core.events import (
    DamageEntered,
    DestinationEntered,
    Event,
    MenuChosen,
    PinEntered,
    PumpEntered,
    RatingEntered,
)
from gateway.core.prompts import Choice, Prompt
from gateway.ports import Report
from protocol.rental_codes import DamageKind, DamagePlace

MAX_LINE: Final = 256
"""Bytes of one line: a damage with a note of 200; the core refuses longer ones."""

CHOICES: Final = {choice.value: choice for choice in Choice}
"""What can be typed instead of pressed."""

HELP: Final = (
    "type 'pin DIGITS', 'pump NUMBER', 'rate INSIDE OUTSIDE', "
    "'damage PLACE KIND NOTE', 'destination WORDS', or one of: " + ", ".join(CHOICES)
)

_PLACES: Final = {each.name.lower(): each for each in DamagePlace}
_KINDS: Final = {each.name.lower(): each for each in DamageKind}

_LOG: Final = logging.getLogger(__name__)


class TerminalDisplay:
    """Logs the key of each prompt; implements `gateway.ports.Display`.

    Args:
        keyboard: file descriptor of a terminal, None for no input.
    """

    def __init__(self, keyboard: int | None = None) -> None:
        """Keep the settings; nothing is read."""
        self._keyboard = keyboard
        self._pending = bytearray()

    async def run(self, report: Report) -> None:
        """Report what is typed until cancelled; without a keyboard, report nothing."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        if self._keyboard is None:
            await over
            return
        keyboard = self._keyboard
        loop.add_reader(keyboard, self._read, keyboard, report)
        _LOG.info("= %s", HELP)
        try:
            await over
        finally:
            loop.remove_reader(keyboard)

    async def show(self, prompt: Prompt, *, secret: str) -> None:  # noqa: ARG002 - a secret is never logged, and a log is all there is
        """Log the prompt's key and numbers, never a secret."""
        numbers = "".join(f" {number}" for number in prompt.numbers)
        _LOG.info("> display: %s%s", prompt.key.value, numbers)

    def _read(self, keyboard: int, report: Report) -> None:
        data = os.read(keyboard, 1_024)
        if not data:  # end of input: the terminal is gone, the car goes on
            asyncio.get_running_loop().remove_reader(keyboard)
            return
        *lines, rest = (bytes(self._pending) + data).split(b"\n")
        self._pending[:] = rest[:MAX_LINE]
        for line in lines:
            event = parse_line(line[:MAX_LINE].decode("utf-8", "replace"))
            if event is not None:
                report(event)
            elif line.strip():
                _LOG.info("= %s", HELP)


def parse_line(line: str) -> Event | None:
    """Return what a typed line means, None for nothing."""
    words = line.lower().split()
    match words:
        case ["pin", pin]:
            return PinEntered(pin)
        case ["rate", inside, outside] if inside.isdecimal() and outside.isdecimal():
            return RatingEntered(int(inside), int(outside))
        case ["pump", pump] if pump.isdecimal():
            return PumpEntered(int(pump))
        case ["destination", _, *_]:
            return DestinationEntered(" ".join(line.split()[1:]))
        case ["damage", place, kind, *_] if place in _PLACES and kind in _KINDS:
            note = " ".join(line.split()[3:])
            return DamageEntered(_PLACES[place], _KINDS[kind], note)
        case _:
            choice = CHOICES.get(" ".join(words))
            return None if choice is None else MenuChosen(choice)
