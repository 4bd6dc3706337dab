"""The backend port on a bridge's public HTTP API."""

import json
import secrets
from typing import Any, Final

from firmware_emulator.backend import Fields
from firmware_emulator.customer import Customer
from firmware_emulator.demand import WAIT_S, Bridge
from firmware_emulator.errors import DemandError
from firmware_emulator.frames_seen import FrameNote
from firmware_emulator.memory_backend import FUEL_CARD_PIN
from protocol.codes import ConfigKind
from protocol.identity import ID_SIZE, VehicleId

_OF_NO_RENTAL: Final = frozenset({"flash_hazards", "ping"})
"""Orders that name no rental."""


class ApiBackend:
    """Implements `firmware_emulator.backend.Backend` for one car."""

    def __init__(
        self, bridge: Bridge, vehicle_id: VehicleId, frames: list[FrameNote]
    ) -> None:
        """Order by an API.

        Args:
            bridge: where it is.
            vehicle_id: which car.
            frames: whoever observes the bridge adds what crosses the air.
        """
        self._bridge = bridge
        self._path = f"/v1/vehicles/{vehicle_id}"
        self._rental_id = ""
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
        of_rental: Fields = {"rental_id": self._rental_id}
        if kind in _OF_NO_RENTAL or not self._rental_id:
            of_rental = {}
        return await self._command({"kind": kind, **of_rental, **fields})

    async def configure(self, kind: ConfigKind, body: bytes) -> None:
        """Bring a configuration; see the port."""
        path = f"{self._path}/configurations/{kind.name.lower()}"
        await self._bridge.call("PUT", path, json.loads(body))

    async def _command(self, document: dict[str, Any]) -> str:
        path = f"{self._path}/commands?wait_s={WAIT_S}"
        command = await self._bridge.call("POST", path, document)
        if command.get("state") == "succeeded":
            return "ok"
        code = command.get("code")
        if not code:
            raise DemandError(f"the car did not answer: {command.get('state')}")
        return str(code).lower()
