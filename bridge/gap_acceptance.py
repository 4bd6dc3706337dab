"""Going on behind ledger entries that will never come, because people said so.

After a store was put back from an older copy, cars have let go of entries that it had
receipted: no car sends them again, and nothing behind them would ever be told.

Rule 1: only what the car itself says that it has a receipt for is given up, or what
stands in a ledger that it replaced. Anything else it still sends (FF-LED-31).
Rule 2: only the oldest gap of a ledger, and only one that was told as an alarm.
Rule 3: consumers are told what is missing before they are told what comes behind it.
Rule 4: a rental that was open before it, and in which the car is no more, ended in it:
its report will not come, so a person closes it.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from bridge import schema
from bridge.approvals import Approval, MissingEntries
from bridge.errors import GapError
from bridge.instant import Instant
from bridge.projection import absorb_gap
from bridge.rows import batches
from bridge.rows.receipts import GAP_ALARM_MS
from bridge.rows.rentals import flag_unended
from bridge.rows.vehicles import load_vehicles
from bridge.twin import rental_of
from bridge.vehicle import VehicleState
from protocol.identity import ID_SIZE, VehicleId
from protocol.receipt import Gap
from protocol.snapshot import NO_RENTAL

GAPS_LISTED: Final = 1_000
"""Gaps that are listed at once: as many as one approval takes."""


@dataclass(frozen=True, slots=True)
class KnownGap:
    """The oldest gap of one ledger."""

    missing: MissingEntries
    """What is missing."""
    since_ms: int
    """Since when what is behind it waits, UTC ms."""
    problem: str
    """Why it may not be accepted now; empty if it may."""


def find_gaps(connection: Connection, *, now: int) -> tuple[list[KnownGap], int]:
    """Return the oldest gap of each ledger that has one, the longest open ones first.

    At most `GAPS_LISTED`; and how many ledgers wait in all.
    """
    table = schema.ledgers
    is_open = table.c.gap_since_ms.is_not(None)
    count = connection.execute(select(func.count()).where(is_open)).scalar_one()
    rows = connection.execute(
        select(table.c.vehicle_id, table.c.ledger_id, table.c.gap_since_ms)
        .where(is_open)
        .order_by(table.c.gap_since_ms, table.c.vehicle_id)
        .limit(GAPS_LISTED)
    ).all()
    since = {
        (VehicleId.from_text(row.vehicle_id), row.ledger_id): row.gap_since_ms
        for row in rows
    }
    gaps = batches.oldest_gaps(connection, since)
    vehicles = load_vehicles(connection, {vehicle_id for vehicle_id, _ in gaps})
    found = []
    for (vehicle_id, ledger_id), gap in gaps.items():
        missing = MissingEntries(vehicle_id, ledger_id, gap.first, gap.last)
        since_ms = since[vehicle_id, ledger_id]
        vehicle = vehicles.get(vehicle_id, VehicleState())
        problem = _problem(missing, gap, since_ms, vehicle, now)
        found.append(KnownGap(missing, since_ms, problem))
    return sorted(found, key=lambda one: one.since_ms), count


def require_lost(connection: Connection, missing: MissingEntries, *, now: int) -> None:
    """Check that these entries may be given up.

    Raises:
        GapError: they may not.
    """
    table = schema.ledgers
    since_ms = connection.execute(
        select(table.c.gap_since_ms).where(
            table.c.vehicle_id == str(missing.vehicle_id),
            table.c.ledger_id == missing.ledger_id,
        )
    ).scalar_one_or_none()
    key = (missing.vehicle_id, missing.ledger_id)
    gap = batches.oldest_gaps(connection, [key]).get(key)
    vehicles = load_vehicles(connection, [missing.vehicle_id])
    vehicle = vehicles.get(missing.vehicle_id, VehicleState())
    problem = _problem(missing, gap, since_ms, vehicle, now)
    if problem:
        raise GapError(f"vehicle {missing.vehicle_id}: {problem}")


def pass_gap(
    connection: Connection,
    missing: MissingEntries,
    approval: Approval,
    *,
    fleet_id: bytes,
    now: int,
) -> None:
    """Go on behind entries that are given up; again, it does nothing.

    Args:
        connection: in a transaction that may write.
        missing: what is given up.
        approval: who wanted it and who let it go.
        fleet_id: 16 bytes.
        now: UTC ms.

    Raises:
        GapError: they may not be given up any more; nothing changed.
    """
    key = (missing.vehicle_id, missing.ledger_id)
    space = batches.load_ledger(
        connection,
        key,
        fleet_id=fleet_id,
        fresh_nonce=lambda: secrets.token_bytes(ID_SIZE),
        at=Instant.written(now),
    )
    ledger = space.ledgers.get(key)
    if ledger is not None and ledger.upto >= missing.last:
        return
    require_lost(connection, missing, now=now)
    before = batches.Before.of(space)
    detail = (
        f"entries {missing.first} to {missing.last} are missing for good: "
        f"{approval.asked_by} and {approval.decided_by} accepted it, "
        f"approval {approval.approval_id.hex()}: {approval.note}"
    )
    absorb_gap(space, key, Gap(missing.first, missing.last), detail)
    batches.write(connection, space, before)
    # Its hello, which allowed this, is younger than what is missing.
    vehicle = load_vehicles(connection, [missing.vehicle_id])[missing.vehicle_id]
    rental_now = bytes.fromhex(rental_of(vehicle.twin) or NO_RENTAL.hex())
    flag_unended(connection, missing, rental_now, fleet_id=fleet_id, now=now)


def _problem(
    missing: MissingEntries,
    gap: Gap | None,
    since_ms: int | None,
    vehicle: VehicleState,
    now: int,
) -> str:
    if gap is None or since_ms is None:
        return "nothing is missing before a held entry of this ledger"
    if (gap.first, gap.last) != (missing.first, missing.last):
        return f"its oldest gap is {gap.first} to {gap.last}"
    if now - since_ms < GAP_ALARM_MS:
        return "it is open for less than a minute, so that the car may still send it"
    is_replaced = missing.ledger_id in vehicle.lost_ledgers
    if is_replaced or (
        missing.ledger_id == vehicle.ledger_id and vehicle.receipted_seq >= missing.last
    ):
        return ""
    return "the car has not said that it has a receipt for them, so it may still send"
