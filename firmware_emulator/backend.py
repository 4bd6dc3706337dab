"""Whoever owns an emulated car: reserves it, orders, and hears what it says.

A script speaks to this port; behind it is a fleet in memory or a bridge's public API.
An order is named as in the bridge's API (docs/api.md): both take the same words.
"""

from typing import Protocol

from firmware_emulator.customer import Customer
from firmware_emulator.frames_seen import FrameNote
from protocol.codes import ConfigKind

Fields = dict[str, str | int | float]
"""What belongs to an order, as in the bridge's API."""


class Backend(Protocol):
    """The fleet's side of one car."""

    frames: list[FrameNote]
    """Every frame in both directions, oldest first."""

    async def reserve(self, customer: Customer, fields: Fields) -> str:
        """Reserve for a customer's card and PIN; return the car's answer, as "ok".

        Args:
            customer: for whom.
            fields: `lock_default`, "park" or "end"; `hold_s`.

        Raises:
            DemandError: nobody answered.
        """
        ...

    async def order(self, kind: str, fields: Fields) -> str:
        """Order something of the running rental; return the car's answer, as "ok".

        Raises:
            DemandError: there is no such order, or nobody answered.
        """
        ...

    async def configure(self, kind: ConfigKind, body: bytes) -> None:
        """Bring a configuration into the car; its ledger says when it counts.

        Raises:
            DemandError: the backend does not take it.
        """
        ...
