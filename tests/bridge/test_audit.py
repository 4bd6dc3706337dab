"""Every call that orders or changes something is written down, and the trail shows
whether somebody was at it (K14, K28)."""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from bridge.api.keys import Role
from bridge.audit import ASKED, AuditCheck, AuditEntry, AuditHead, AuditRow, chained
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.publishing import GBFS
from tests.bridge.running import Running
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.tools.command_line import freefloat


def trail(length: int) -> tuple[list[AuditRow], AuditHead]:
    head, rows = AuditHead(), []
    for number in range(length):
        entry = AuditEntry(number, "anna", "operator", f"POST /{number}", ASKED)
        row = chained(head, entry)
        rows.append(row)
        head = AuditHead(row.row_id, row.row_hash)
    return rows, head


def faults_of(
    rows: list[AuditRow], head: AuditHead, noted: AuditHead | None = None
) -> list[str]:
    check = AuditCheck(*([] if noted is None else [noted]))
    for row in rows:
        check.take(row)
    check.end(head)
    return check.faults


def test_a_trail_that_nobody_was_at_holds() -> None:
    rows, head = trail(5)

    assert faults_of(rows, head) == []
    assert faults_of(rows, head, AuditHead(3, rows[2].row_hash)) == []
    assert faults_of([], AuditHead()) == []


@pytest.mark.parametrize("place", range(5))
def test_a_row_deleted_moved_or_edited_anywhere_is_named(place: int) -> None:
    # K14
    rows, head = trail(5)

    deleted = rows[:place] + rows[place + 1 :]
    assert f"row {place + 1}" in " ".join(faults_of(deleted, head))
    for change in (
        {"at_ms": 99},
        {"who": "otto"},
        {"role": "admin"},
        {"what": "POST /x"},
        {"outcome": "200"},
        {"asked": 1},
    ):
        edited = list(rows)
        entry = replace(rows[place].entry, **change)
        edited[place] = replace(rows[place], entry=entry)
        assert faults_of(edited, head) == [f"row {place + 1}: was edited"]
    swapped = list(rows)
    other = (place + 1) % 5
    swapped[place], swapped[other] = swapped[other], swapped[place]
    assert faults_of(swapped, head)


def test_a_trail_made_anew_is_found_by_a_head_that_was_noted() -> None:
    # K14
    rows, _ = trail(5)
    noted = AuditHead(3, rows[2].row_hash)
    head, forged = AuditHead(), []
    for row in rows:
        entry = replace(row.entry, who="somebody-else")
        forged.append(chained(head, entry))
        head = AuditHead(forged[-1].row_id, forged[-1].row_hash)

    assert faults_of(forged, head) == []
    assert faults_of(forged, head, noted) == ["row 3: is not the one that was noted"]
    short = AuditHead(2, forged[1].row_hash)
    assert faults_of(forged[:2], short, noted) == ["row 3: was noted and is gone"]


@pytest.mark.broker
async def test_orders_and_refusals_are_written_down_before_and_after(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    async with bridge_with_roles(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        path = f"/v1/vehicles/{running.car.id}/commands"
        rental = RENTAL.hex()
        reserve = {"kind": "reserve", "rental_id": rental, "hold_s": 9, "pin": "73219"}
        _, command = await ask(running, Role.SERVICE, "post", path, reserve)
        await written(running, 2)
        await ask(running, Role.VIEWER, "post", path, {"kind": "ping"})
        await written(running, 4)
        await ask(running, Role.OPERATOR, "post", f"/v1/rentals/{rental}/close")
        await written(running, 6)
        await ask(running, Role.VIEWER, "get", "/v1/vehicles")
        _, page = await ask(running, Role.ADMIN, "get", "/v1/audit")

    told = [
        (row["id"], row["who"], row["what"], row["outcome"], row["asked"])
        for row in page["rows"]
    ]
    reserved = f"POST {path} kind=reserve rental_id={rental}"
    closed = f"POST /v1/rentals/{rental}/close"
    assert told == [
        (1, "service", reserved, "asked", 0),
        (2, "service", reserved, f"202 /v1/commands/{command['id']}", 1),
        (3, "viewer", f"POST {path} kind=ping", "asked", 0),
        (4, "viewer", f"POST {path} kind=ping", "403", 3),
        (5, "operator", closed, "asked", 0),
        (6, "operator", closed, "409", 5),
    ]
    assert "73219" not in json.dumps(page)


async def written(running: Running, count: int) -> None:
    """Wait for so many rows: the second of each call is written behind its answer."""
    async with asyncio.timeout(20):
        while len((await running.bridge.store.audit_after(0, 100))[0]) < count:  # noqa: ASYNC110 - asked
            await asyncio.sleep(0.01)


@pytest.mark.broker
async def test_an_auditor_finds_on_the_command_line_which_row_was_edited(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K14
    async with bridge_with_roles(fleet, tmp_path) as running:
        auditor = tmp_path / "auditor.key"
        auditor.touch(mode=0o600)
        auditor.write_text(f"admin:admin:{KEY[Role.ADMIN]}\n")
        for _ in range(3):
            await ask(running, Role.OPERATOR, "post", "/v1/dead-letters/9/judge")
        words = (
            *("bridge", "audit", "--api", running.bridge.api_url),
            *("--api-key-file", str(auditor)),
        )

        good = await asyncio.to_thread(freefloat, *words, cwd=tmp_path)
        store = create_engine(f"sqlite:///{tmp_path / 'bridge.sqlite'}")
        with store.begin() as connection:
            connection.execute(text("UPDATE audit SET who = 'otto' WHERE id = 3"))
        store.dispose()
        bad = await asyncio.to_thread(freefloat, *words, cwd=tmp_path)

    assert good.returncode == 0, good.stderr
    assert re.search(r"6:[0-9a-f]{64}", good.stdout)
    assert bad.returncode != 0
    assert "broken: row 3: was edited" in bad.stderr
    assert "keep the store as it is" in bad.stderr


@pytest.mark.broker
async def test_an_order_that_may_wait_or_stands_for_another_is_written_down_as_such(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """K28: a car that locks hours after the call was told so in that call."""
    async with bridge_with_roles(fleet, tmp_path) as running:
        path = f"/v1/vehicles/{running.car.id}/commands"
        lock = {"kind": "lock", "rental_id": RENTAL.hex()}
        retried = "0" * 32
        for query in ("defer_s=600", f"retry_of={retried}", "defer_s=6%200&x=%0A"):
            await ask(running, Role.OPERATOR, "post", f"{path}?{query}", lock)
        rows, _ = await running.bridge.store.audit_after(0, 10)

    told = f"kind=lock rental_id={RENTAL.hex()}"
    assert [row.entry.what for row in rows if row.entry.outcome == ASKED] == [
        f"POST {path} defer_s=600 {told}",
        f"POST {path} retry_of={retried} {told}",
        f"POST {path} {told}",
    ]


@pytest.mark.broker
@pytest.mark.parametrize("path", ["/health", "/ready", "/gbfs/3.0/gbfs.json"])
@pytest.mark.parametrize("method", ["post", "delete", "options"])
async def test_a_stranger_writes_nothing_into_the_trail(
    fleet: FleetDirectory, tmp_path: Path, method: str, path: str
) -> None:
    """K28, I-31: a flood without a key fills no table, and is counted as what it is."""
    async with bridge_with_roles(fleet, tmp_path, gbfs=GBFS) as running:
        read, _ = await ask(running, "", "get", path)
        status, _ = await ask(running, "", method, path, {})
        rows, _ = await running.bridge.store.audit_after(0, 10)

    assert (read, status, rows) == (200, 401, [])


@pytest.mark.broker
async def test_what_cannot_be_written_down_is_not_done(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    async with bridge_with_roles(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        store = create_engine(f"sqlite:///{tmp_path / 'bridge.sqlite'}")
        with store.begin() as connection:
            connection.execute(text("DROP TABLE audit"))
        store.dispose()
        path = f"/v1/vehicles/{running.car.id}/commands"

        status, problem = await ask(
            running, Role.OPERATOR, "post", path, {"kind": "ping"}
        )

        assert (status, running.broker.sent_of(FrameClass.CMD)) == (503, [])
    assert problem["type"] == "urn:freefloat:problem:store-unavailable"
