"""Whoever can write to the whole store still cannot rewrite what was done (K14)."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, create_engine, text

from bridge.api.keys import Role
from bridge.audit import GENESIS, AuditCheck, AuditEntry, AuditHead, chained
from bridge.checkpoints import CheckpointError, Checkpoints, Line, read_checkpoints
from bridge.settings import AuditSettings
from certs.fleet import FleetDirectory
from protocol.keys import Ed25519SigningKey
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.world import World
from tests.tools.command_line import freefloat

ROWS = 6
NOTED = 4
"""The row at which the checkpoint was written."""


def made_anew(connection: Connection, ids: list[int], who: str = "anna") -> None:
    """Write these rows as somebody would who knows how the chain is made."""
    found = {
        row.id: row for row in connection.execute(text("SELECT * FROM audit")).all()
    }
    connection.execute(text("DELETE FROM audit"))
    head = AuditHead()
    for row_id in ids:
        old = found[row_id]
        entry = AuditEntry(old.at_ms, who, old.role, old.what, old.outcome, old.asked)
        row = chained(head, entry)
        connection.execute(
            text("INSERT INTO audit VALUES (:i, :a, :w, :r, :t, :o, :n, :p, :h)"),
            {
                "i": row.row_id,
                "a": entry.at_ms,
                "w": entry.who,
                "r": entry.role,
                "t": entry.what,
                "o": entry.outcome,
                "n": entry.asked,
                "p": row.prev_hash,
                "h": row.row_hash,
            },
        )
        head = AuditHead(row.row_id, row.row_hash)
    connection.execute(
        text("UPDATE meta SET value = :v WHERE name = 'audit_head'"),
        {"v": f"{head.row_id} {head.row_hash.hex()}"},
    )


ATTACKS: dict[str, tuple[Callable[[Connection], None], str]] = {
    "the tail cut off, and the head put back": (
        lambda c: made_anew(c, [1, 2, 3]),
        "row 4: was noted and is gone",
    ),
    "a row deleted, and the rest made anew": (
        lambda c: made_anew(c, [1, 3, 4, 5, 6]),
        "row 4: is not the one that was noted",
    ),
    "two rows swapped, and the rest made anew": (
        lambda c: made_anew(c, [2, 1, 3, 4, 5, 6]),
        "row 4: is not the one that was noted",
    ),
    "every row edited, and all made anew": (
        lambda c: made_anew(c, [1, 2, 3, 4, 5, 6], who="otto"),
        "row 4: is not the one that was noted",
    ),
    "everything deleted": (
        lambda c: made_anew(c, []),
        "row 4: was noted and is gone",
    ),
}


async def with_rows(world: World, path: Path) -> Checkpoints:
    checkpoints = Checkpoints(
        path,
        world.store,
        world.fleet.fleet.fleet_id,
        key=lambda: world.receipt_key,
        now=world.now,
    )
    for number in range(ROWS):
        entry = AuditEntry(number, "anna", "operator", f"POST /{number}", "asked")
        await world.store.append_audit(entry)
        if number + 1 == NOTED:
            _, head = await world.store.audit_after(0, 1)
            checkpoints.write(head)
    return checkpoints


def heads_of(world: World, path: Path) -> list[AuditHead]:
    keys = [world.receipt_key.verify_key]
    fleet_id = world.fleet.fleet.fleet_id
    return list(read_checkpoints(path, fleet_id=fleet_id, keys=keys))


async def faults(world: World, *noted: AuditHead) -> list[str]:
    check = AuditCheck(*noted)
    rows, head = await world.store.audit_after(0, 100)
    for row in rows:
        check.take(row)
    check.end(head)
    return check.faults


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_chain_made_anew_in_the_whole_store_is_found_by_a_checkpoint(
    world: World, tmp_path: Path, name: str
) -> None:
    # K14
    attack, said = ATTACKS[name]
    path = tmp_path / "heads.jsonl"
    await with_rows(world, path)
    noted = heads_of(world, path)
    assert await faults(world, *noted) == []

    engine = create_engine(f"sqlite:///{world.path}")
    with engine.begin() as connection:
        attack(connection)
    engine.dispose()

    # The chain itself holds: its maker knew how.
    assert await faults(world) == []
    assert said in await faults(world, *noted)


async def test_nobody_but_the_fleet_writes_checkpoints(
    world: World, tmp_path: Path
) -> None:
    # K14
    path = tmp_path / "heads.jsonl"
    checkpoints = await with_rows(world, path)
    good = msgspec.json.decode(path.read_bytes(), type=Line)

    def refused(**changes: object) -> str:
        changed = msgspec.structs.replace(good, **changes)
        path.write_bytes(msgspec.json.encode(changed) + b"\n")
        with pytest.raises(CheckpointError) as found:
            heads_of(world, path)
        return str(found.value)

    assert "does not hold" in refused(row=5)
    assert "does not hold" in refused(row_hash=GENESIS.hex())
    assert "does not hold" in refused(at_ms=0)
    assert "does not hold" in refused(row=2**70)
    assert "does not hold" in refused(signature="!")
    assert "no key of this fleet" in refused(key_id="00" * 8)
    path.write_bytes(b"nonsense\n")
    with pytest.raises(CheckpointError, match="line 1"):
        heads_of(world, path)
    strange = Ed25519SigningKey.generate()
    path.unlink()
    Checkpoints(
        path, world.store, checkpoints.fleet_id, lambda: strange, world.now
    ).write(AuditHead(1, GENESIS))
    with pytest.raises(CheckpointError, match="no key of this fleet"):
        heads_of(world, path)
    path.unlink()
    checkpoints.write(AuditHead(5, GENESIS))
    checkpoints.write(AuditHead(4, GENESIS))
    with pytest.raises(CheckpointError, match="goes back to row 4"):
        heads_of(world, path)


@pytest.mark.broker
async def test_an_auditor_holds_the_trail_against_the_bridges_checkpoints(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K14
    path = tmp_path / "heads.jsonl"
    audit = AuditSettings(checkpoints=str(path))
    async with bridge_with_roles(fleet, tmp_path, audit=audit) as running:
        await ask(running, Role.OPERATOR, "post", "/v1/dead-letters/9/judge")
    # A bridge that stops leaves no call without a checkpoint.
    assert path.stat().st_mode & 0o777 == 0o600
    key = tmp_path / "auditor.key"
    key.touch(mode=0o600)
    key.write_text(f"admin:admin:{KEY[Role.ADMIN]}\n")
    engine = create_engine(f"sqlite:///{tmp_path / 'bridge.sqlite'}")
    with engine.begin() as connection:
        made_anew(connection, [1])
    engine.dispose()

    async with bridge_with_roles(fleet, tmp_path) as running:
        found = await asyncio.to_thread(
            freefloat,
            *("bridge", "audit", "--api", running.bridge.api_url),
            *("--api-key-file", str(key)),
            *("--checkpoints", str(path), "--fleet", str(fleet.path)),
            cwd=tmp_path,
        )

    assert found.returncode == 1, found.stderr
    assert "row 2: was noted and is gone" in found.stderr
