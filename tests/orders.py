"""Orders that a fleet gives over the API to emulated cars, and what boards did."""

from collections.abc import Callable
from typing import Any

import pytest

from firmware_emulator.boards import EmulatedBoard
from firmware_emulator.demand import Bridge
from firmware_emulator.vehicle import EmulatedVehicle
from tools.rig import Rig

HONEST = {"succeeded", "expired", "rejected"}
"""What the car itself said, or what follows from its silence and its hello."""


def api_of(rig: Rig) -> Bridge:
    return Bridge(rig.bridge.api_url, {"X-Api-Key": rig.api_key})


async def order(
    api: Bridge, vehicle: EmulatedVehicle, kind: str, *, wait_s: int = 30, **body: str
) -> dict[str, Any]:
    path = f"/v1/vehicles/{vehicle.vehicle_id}/commands?wait_s={wait_s}"
    return await api.call("POST", path, {"kind": kind, **body})


async def settled(api: Bridge, told: dict[str, Any]) -> dict[str, Any]:
    """Return a command once the bridge knows what became of it."""
    while told["state"] not in HONEST:
        told = await api.call("GET", f"/v1/commands/{told['id']}?wait_s=30")
    return told


def note_flashes(
    monkeypatch: pytest.MonkeyPatch, *, then: Callable[[], object] = lambda: None
) -> list[int]:
    """Return a list that gets every time a board is told to flash, whoever asked.

    `then` is called each time, before anybody can hear of it.
    """
    seen: list[int] = []
    flash = EmulatedBoard.flash_hazards

    async def noted(self: EmulatedBoard, seconds: int) -> None:
        seen.append(seconds)
        await flash(self, seconds)
        then()

    monkeypatch.setattr(EmulatedBoard, "flash_hazards", noted)
    return seen


def note_openings(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that grows each time a board is told to open, whoever asked."""
    seen: list[None] = []
    drive_locks = EmulatedBoard.drive_locks

    async def noted(self: EmulatedBoard, *, locked: bool) -> None:
        if not locked:
            seen.append(None)
        await drive_locks(self, locked=locked)

    monkeypatch.setattr(EmulatedBoard, "drive_locks", noted)
    return seen
