"""The backend port on a bridge's public HTTP API."""

import asyncio
import json
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from firmware_emulator.backend import Fields
from firmware_emulator.customer import Customer
from firmware_emulator.demand import WAIT_S, Bridge
from firmware_emulator.errors import DemandError
from firmware_emulator.frames_seen import FrameNote
from firmware_emulator.memory_backend import FUEL_CARD_PIN
from protocol.codes import ConfigKind
from protocol.identity import ID_SIZE, VehicleId

_OF_NO_RENTAL: Final = frozenset({"flash_hazards", "ping", "service", "restart"})
"""Orders that name no rental."""

GRANT_SPAN: Final = timedelta(hours=1)
"""A grant counts for an hour, and did for the hour before."""

HANDOVER_OFFERED: Final = "freefloat.handover.offered"
"""The event that names an offer of the driver."""

PAYMENT_REQUESTED: Final = "freefloat.payment.requested"
"""The event that names a payment."""

_LOOK_S: Final = 0.1
_LOOKS: Final = 100
"""So often the events are looked at: ten seconds in all."""


class ApiBackend:
    """Implements `firmware_emulator.backend.Backend` for one car."""

    def __init__(
        self,
        bridge: Bridge,
        vehicle_id: VehicleId,
        frames: list[FrameNote],
        *,
        events: Path,
        now: Callable[[], datetime],
    ) -> None:
        """Order by an API.

        Args:
            bridge: where it is.
            vehicle_id: which car.
            frames: whoever observes the bridge adds what crosses the air.
            events: where the bridge's sink of JSON lines writes.
            now: the time in UTC, by which grants are given.
        """
        self._bridge = bridge
        self._path = f"/v1/vehicles/{vehicle_id}"
        self._rental_id = ""
        self._events = events
        self._now = now
        self.frames = frames

    async def reserve(self, customer: Customer, fields: Fields) -> str:
        """Reserve; see the port."""
        rental_id = secrets.token_hex(ID_SIZE)
        answer = await self._command(
            {
                "kind": "reserve",
                "rental_id": rental_id,
                "cards": [customer.card.uid.hex()],
                "pin": customer.pin,
                "fuel_card_pin": FUEL_CARD_PIN,
                **fields,
            }
        )
        if answer == "ok":
            self._rental_id = rental_id
        return answer

    async def order(self, kind: str, fields: Fields) -> str:
        """Order; see the port."""
        if kind == "grant":
            return await self._command(self._grant(fields))
        if kind == "payment_decision":
            return await self._command(await self._payment(fields))
        if kind == "handover_offer":
            return await self._command(await self._handover(fields))
        if kind == "handover_request":
            fields = {"request_id": secrets.token_hex(ID_SIZE), **fields}
        of_rental: Fields = {"rental_id": self._rental_id}
        if kind in _OF_NO_RENTAL or not self._rental_id:
            of_rental = {}
        return await self._command({"kind": kind, **of_rental, **fields})

    async def configure(self, kind: ConfigKind, body: bytes) -> None:
        """Bring a configuration; see the port."""
        path = f"{self._path}/configurations/{kind.name.lower()}"
        await self._bridge.call("PUT", path, json.loads(body))

    def _grant(self, fields: Fields) -> dict[str, Any]:
        now = self._now()
        return {
            "kind": "grant",
            "rental_id": secrets.token_hex(ID_SIZE),
            "grant_id": secrets.token_hex(ID_SIZE),
            "card": fields["card"],
            "pin": fields["pin"],
            "fuel_card_pin": FUEL_CARD_PIN,
            "language": fields.get("language", "en"),
            "rights": ["unlock", fields["rights"]],
            "not_before": (now - GRANT_SPAN).isoformat(),
            "not_after": (now + GRANT_SPAN).isoformat(),
        }

    async def _payment(self, fields: Fields) -> dict[str, Any]:
        return {
            "kind": "payment_decision",
            "rental_id": self._rental_id,
            "payment_id": await self._payment_asked(),
            "currency": "EUR",
            **fields,
        }

    async def _payment_asked(self) -> str:
        """Return the id of the newest payment that the fleet was told of.

        Raises:
            DemandError: it was told of none.
        """
        for _ in range(_LOOKS):
            asked = await self._told(PAYMENT_REQUESTED)
            if asked:
                return str(asked[-1]["payment_id"])
            await asyncio.sleep(_LOOK_S)
        raise DemandError("the car has asked for no payment")

    async def _handover(self, fields: Fields) -> dict[str, Any]:
        """Name the second driver for the driver's newest offer, else for a new one."""
        rest = {name: value for name, value in fields.items() if name != "card"}
        offers = await self._told(HANDOVER_OFFERED)
        own = [each for each in offers if each["rental_id"] == self._rental_id]
        return {
            "kind": "handover_offer",
            "rental_id": self._rental_id,
            "offer_id": own[-1]["offer_id"] if own else secrets.token_hex(ID_SIZE),
            "cards": [fields["card"]],
            "fuel_card_pin": FUEL_CARD_PIN,
            **rest,
        }

    async def _told(self, event_type: str) -> list[dict[str, Any]]:
        """Return what the fleet was told by all events of a type, oldest first."""
        text = await asyncio.to_thread(self._events.read_text, "utf-8")
        whole, _, _ = text.rpartition("\n")
        events = [json.loads(line) for line in whole.splitlines()]
        return [each["data"] for each in events if each["type"] == event_type]

    async def _command(self, document: dict[str, Any]) -> str:
        path = f"{self._path}/commands?wait_s={WAIT_S}"
        command = await self._bridge.call("POST", path, document)
        if command.get("state") == "succeeded":
            return "ok"
        code = command.get("code")
        if not code:
            raise DemandError(f"the car did not answer: {command.get('state')}")
        return str(code).lower()
