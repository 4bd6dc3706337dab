"""The card reader port in memory: cards are held to the windscreen and taken away.

The gateway is told what a polling reader would tell it: one tap is one event, however
long the card stays (I-14), and a reader that fails is reported once and looked for
again (I-15).
"""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final, Self

from gateway.core.events import CardPresented, ReaderLost, ReaderRecovered
from gateway.ports import Report

UID_SIZES: Final = (4, 7, 10)
"""Bytes of a UID: single, double, triple (ISO/IEC 14443-3, 6.5.4)."""

_NXP: Final = 0x04
"""First byte of a 7-byte UID: the maker (ISO/IEC 7816-6), here NXP."""


@dataclass(frozen=True, slots=True)
class Card:
    """A customer's card, or any other card."""

    uid: bytes
    """4, 7 or 10 bytes."""

    def __post_init__(self) -> None:
        if len(self.uid) not in UID_SIZES:
            raise ValueError(f"a UID has 4, 7 or 10 bytes, not {len(self.uid)}")

    @classmethod
    def random(cls, rng: Random) -> Self:
        """Make a card with a fixed 7-byte UID; it never looks like a random id."""
        return cls(bytes([_NXP]) + rng.randbytes(6))

    def __repr__(self) -> str:
        return f"Card(...{self.uid[-2:].hex()})"


class EmulatedReader:
    """Implements `gateway.ports.Reader`."""

    def __init__(self) -> None:
        """Mount a reader with no card before it."""
        self._card: Card | None = None
        self._seen: Card | None = None
        self._taps: list[Card] = []
        self._runs = False
        self._works = True
        self._told_lost = False
        self._changed = asyncio.Event()
        self._polled = asyncio.Event()

    async def run(self, report: Report) -> None:
        """Report `CardPresented`, `ReaderLost` and `ReaderRecovered` until cancelled.

        A card that is there when the reader starts is a tap.
        """
        self._seen = None
        self._told_lost = False
        self._runs = True
        try:
            while True:
                self._changed.clear()
                self._poll(report)
                await self._changed.wait()
        finally:
            self._runs = False
            self._taps.clear()

    async def probe(self) -> None:
        """Have the reader look for a card, and return when it has."""
        self._polled.clear()
        self._changed.set()
        await self._polled.wait()

    def present(self, card: Card) -> None:
        """Hold a card to the reader and leave it there."""
        self._card = card
        self._changed.set()

    def remove(self) -> None:
        """Take the card away."""
        self._card = None
        self._changed.set()

    def tap(self, card: Card) -> bool:
        """Hold a card to the reader and take it away; return whether one was there."""
        if not (self._runs and self._works):
            return False
        self._taps.append(card)
        self._changed.set()
        return True

    def fail(self) -> None:
        """Unplug the reader."""
        self._works = False
        self._changed.set()

    def repair(self) -> None:
        """Plug it in again."""
        self._works = True
        self._changed.set()

    def _poll(self, report: Report) -> None:
        if not self._works:
            if not self._told_lost:
                self._told_lost = True
                report(ReaderLost())
            self._seen = None
            return
        self._polled.set()
        if self._told_lost:
            self._told_lost = False
            report(ReaderRecovered())
        for card in self._taps:
            report(CardPresented(card.uid))
        self._taps.clear()
        if self._card is not None and self._card != self._seen:
            report(CardPresented(self._card.uid))
        self._seen = self._card
