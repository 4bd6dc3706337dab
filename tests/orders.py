"""Orders that a fleet gives over the API to emulated cars, and what boards did."""

from typing import Any

import pytest

from firmware_emulator.boards import EmulatedBoard
from firmware_emulator.demand import Bridge
from firmware_emulator.vehicle import EmulatedVehicle
from tools.rig import Rig


def api_of(rig: Rig) -> Bridge:
    return Bridge(rig.bridge.api_url, {"X-Api-Key": rig.api_key})


async def order(api: Bridge, vehicle: EmulatedVehicle, kind: str) -> dict[str, Any]:
    path = f"/v1/vehicles/{vehicle.vehicle_id}/commands?wait_s=30"
    return await api.call("POST", path, {"kind": kind})


def note_flashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets every time a board is told to flash, whoever asked."""
    seen: list[int] = []
    flash = EmulatedBoard.flash_hazards

    async def noted(self: EmulatedBoard, seconds: int) -> None:
        seen.append(seconds)
        await flash(self, seconds)

    monkeypatch.setattr(EmulatedBoard, "flash_hazards", noted)
    return seen
