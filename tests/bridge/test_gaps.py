"""Two people let a ledger go on without entries that are lost (K28, I-27)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.api.keys import Role
from bridge.rows.outbox import OutboxRow
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import REPORT
from tests.bridge.running import Running
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.world import NOW_MS
from tests.tools.command_line import freefloat

pytestmark = pytest.mark.broker


async def with_alarm(running: Running) -> list[OutboxRow]:
    """Return what is told when the gap has been told: a sweep does it, in its time."""
    async with asyncio.timeout(10):
        while True:
            held = await running.bridge.store.outbox_after(0, 100)
            if "freefloat.ledger.gap" in [row.type for row in held]:
                return list(held)
            await asyncio.sleep(0.02)


async def test_a_lost_gap_is_asked_for_by_one_and_let_go_by_another(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """K28, I-27, FF-LED-31: whatever `approvals.required` says, which is off here."""
    now = NOW_MS
    async with bridge_with_roles(fleet, tmp_path, now=lambda: now) as running:
        keys = {}
        for role in (Role.OPERATOR, Role.APPROVER):
            keys[role] = tmp_path / f"{role}.key"
            keys[role].touch(mode=0o600)
            keys[role].write_text(KEY[role])

        async def gaps(*words: str) -> tuple[int, Any, str]:
            to = ("--api", running.bridge.api_url, "--json")
            key = ("--api-key-file", str(keys[Role.OPERATOR]))
            command = ("bridge", "gaps", *words, *to, *key)
            done = await asyncio.to_thread(freefloat, *command, cwd=tmp_path)
            return done.returncode, json.loads(done.stdout or "null"), done.stderr

        car = running.car
        entries = [car.event(REPORT) for _ in range(3)]
        await running.say(FrameClass.HELLO, car.hello(oldest_unreceipted=1))
        await running.say(FrameClass.EVENT, entries[2])
        now += 61_000
        refused, _, why = await gaps("accept", str(car.id), "--reason", "lost")
        car.renew_session()
        await running.say(FrameClass.HELLO, car.hello(oldest_unreceipted=3))
        _, listed, _ = await gaps("list")
        asked, approval, _ = await gaps("accept", "--all", "--reason", "disk 2 broke")
        path = f"/v1/approvals/{approval['id']}"
        held = await with_alarm(running)
        own, _ = await ask(running, KEY[Role.OPERATOR], "post", path + "/approve")
        status, done = await ask(running, Role.APPROVER, "post", path + "/approve")
        told = await running.bridge.store.outbox_after(held[-1].position, 100)
        empty, _, nothing = await gaps("accept", "--all", "--reason", "again")
        rows, _ = await running.bridge.store.audit_after(0, 100)

    [gap] = listed["gaps"]
    missing = {
        "vehicle_id": str(car.id),
        "ledger_id": car.ledger_id.hex(),
        "first": 1,
        "last": 2,
    }
    assert refused != 0
    assert "may still send" in why
    assert gap["can_be_accepted"] is True
    assert asked == 0
    assert approval["order"] == {"kind": "accept_gap", "gaps": [missing]}
    assert (approval["cause"], approval["note"]) == ("gives-up-entries", "disk 2 broke")
    assert "freefloat.rental.ended" not in [row.type for row in held]
    assert own == 403
    assert (status, done["state"], done["is_carried_out"]) == (200, "approved", True)
    outcome = {"vehicle_id": str(car.id), "command_id": None, "problem": None}
    assert done["outcomes"] == [outcome]
    assert [row.type for row in told] == [
        "freefloat.approval.changed",
        "freefloat.ledger.gap_accepted",
        "freefloat.rental.ended",
    ]
    assert empty != 0
    assert "no gap can be accepted" in nothing
    what = [(row.entry.who, row.entry.what.split()[1]) for row in rows]
    assert ("operator", "/v1/gaps/accept") in what
    assert ("approver", path + "/approve") in what
