"""What a word of a script is made of: stages, deeds, verbs and how words are read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from firmware_emulator.backend import Backend
from firmware_emulator.customer import Customer
from firmware_emulator.reader import Card
from firmware_emulator.vehicle import EmulatedVehicle

SECOND_CARD: Final = Card(bytes.fromhex("04b0b0b0b0b0b0"))
"""Of the second customer, who takes the car over."""

SECOND_PIN: Final = "1357"
"""Of the second customer."""

SHOWN: Final = 40
"""Characters of a wrong word that a message repeats."""


@dataclass(slots=True)
class Stage:
    """One vehicle and the customer at it."""

    vehicle: EmulatedVehicle
    """The vehicle."""
    customer: Customer
    """Who acts."""
    backend: Backend | None = None
    """Whom the car belongs to; None where nobody can be asked."""
    seq: int = 0
    """The ledger's newest entry before the last deed: `expect entry` looks after it."""
    frames: int = 0
    """Frames before the last deed: `expect sent` looks after them."""
    answer: str = ""
    """What the car answered to the backend's last order."""

    @property
    def second(self) -> Customer:
        """Another customer, who may take the car over (H11)."""
        return Customer(self.vehicle.devices, SECOND_CARD, SECOND_PIN, "The second")


Deed = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """A word that can be said first."""

    usage: str
    """The word and what follows it."""
    summary: str
    """What it does, in a few words."""
    read: Callable[[list[str]], Deed]
    """Makes a deed of what follows the word.

    Raises `ScriptError` or ValueError for what it does not understand.
    """
    who: str = "customer"
    """Who does it: customer, fleet, world or watch."""


def none(rest: list[str]) -> None:
    """Require that nothing follows.

    Raises:
        ValueError: something does.
    """
    if rest:
        raise ValueError(f"{rest[0][:SHOWN]!r} is too much")


def one(rest: list[str]) -> str:
    """Return the one word that follows, in small letters.

    Raises:
        ValueError: none or more do.
    """
    if len(rest) != 1:
        raise ValueError(f"takes one word, not {len(rest)}")
    return rest[0].lower()


def two(rest: list[str]) -> tuple[str, str]:
    """Return the two words that follow.

    Raises:
        ValueError: not two do.
    """
    if len(rest) != 2:  # noqa: PLR2004 - as the name says
        raise ValueError(f"{len(rest)} words where two belong")
    return rest[0], rest[1]


def number(rest: list[str], least: float, most: float) -> float:
    """Return the one number that follows.

    Raises:
        ValueError: it is none, or out of bounds.
    """
    word = one(rest)
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word[:SHOWN]!r} is no number") from None
    if not least <= value <= most:
        raise ValueError(f"{value:g} is not within {least:g} and {most:g}")
    return value


def among(rest: list[str], allowed: tuple[str, ...]) -> str:
    """Return the one word that follows, of those allowed.

    Raises:
        ValueError: it is another.
    """
    word = one(rest)
    if word not in allowed:
        raise ValueError(f"{word[:SHOWN]!r} is not one of {', '.join(allowed)}")
    return word
