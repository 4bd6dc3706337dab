"""A withdrawn car is nobody to a running bridge within a minute (row 34, K8).

The bridge's own part: `tests/broker/test_revocation.py` shows that the broker ends the
car's session, and this one that the bridge looks often enough. So nothing that such a
car signs is believed, and nothing is signed for it, whatever its broker does.
"""

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from certs.fleet import FleetDirectory
from certs.revocation import revoke_vehicle
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL, Car, sample
from tests.bridge.conftest import MADE
from tests.bridge.running import Running, running_bridge
from tests.bridge.world import BOOT_MS

pytestmark = pytest.mark.broker

LIMIT_S: Final = 60.0
"""From the withdrawal to the last frame that is believed."""

UNLOCK: Final = {"kind": "unlock", "rental_id": RENTAL.hex()}


async def refused(running: Running) -> list[str]:
    """Return the reasons of what is kept and not believed."""
    _, answer = await running.get("/v1/dead-letters")
    return [letter["reason"] for letter in answer["letters"]]


async def test_a_withdrawn_car_is_believed_and_served_no_more_within_a_minute(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """Row 34 (revoked, cut off in 60 s), K8: by the loop of a bridge as it runs."""
    shutil.copytree(fleet.path, tmp_path / "fleet")
    office = FleetDirectory.open(tmp_path / "fleet")
    async with running_bridge(office, tmp_path) as running:
        victim = running.car
        kept_id = next(one for one in office.vehicle_ids() if one != victim.id)
        kept = Car(office.vehicle_directory(kept_id), boot_ms=lambda: BOOT_MS)
        await running.say(FrameClass.HELLO, victim.hello())
        before = (await running.order(UNLOCK))[0], await refused(running)

        revoke_vehicle(office, victim.id, now=MADE)
        begun_s = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            while not await refused(running):
                await running.say(FrameClass.TELEM, victim.telemetry(sample()))
                await asyncio.sleep(0.1)
        took_s = time.monotonic() - begun_s
        status, problem = await running.order(UNLOCK)
        reasons = await refused(running)
        await running.broker.deliver(
            kept.topic(FrameClass.HELLO), kept.hello()
        ).is_done.wait()
        others = await refused(running)

    sys.stdout.write(f"cut off {took_s:.1f} s after it was withdrawn\n")
    assert before == (202, [])
    assert "is not registered" in reasons[0]
    assert (status, problem["type"]) == (404, "urn:freefloat:problem:unknown-vehicle")
    assert others == reasons
