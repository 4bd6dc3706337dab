"""Loading what a batch needs, and writing what it leaves behind.

Every load is one statement for the whole batch, so that a batch of 256 frames costs
about ten statements and one fsync.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec
from sqlalchemy import Connection, bindparam, select, tuple_, update

from bridge import schema
from bridge.ingest import (
    NUMBER_LIMIT,
    Rejection,
    Verified,
    VerifiedEntry,
    VerifiedHello,
    VerifiedPlace,
    VerifiedTelemetry,
)
from bridge.instant import Instant
from bridge.kept_vehicles import kept_in
from bridge.ledger import HELD_LIMIT, Ledger, Place, gaps_of
from bridge.rows.commands import load_commands, load_open_commands, write_command
from bridge.rows.configurations import settle_configurations
from bridge.rows.letters import write_letters
from bridge.rows.locks import lock_vehicles
from bridge.rows.outbox import write_outbox
from bridge.rows.places import load_places, write_places
from bridge.rows.receipts import OpenGap
from bridge.rows.rentals import flag_lost
from bridge.rows.rotations import write_rotations
from bridge.rows.statements import (
    chunks,
    insert_many,
    look_up_named,
    upsert,
    upsert_many,
)
from bridge.rows.steps import write_steps
from bridge.rows.telemetry import write_telemetry
from bridge.rows.vehicles import load_vehicles, write_vehicles
from bridge.sampling import Told
from bridge.vehicle import VehicleState
from bridge.whereabouts import commitment_of
from bridge.workspace import EntryKey, LedgerKey, Workspace
from protocol.identity import VehicleId
from protocol.place import NO_PLACE
from protocol.receipt import Gap
from protocol.result import Result

_PLACE: Final = tuple_(
    schema.frames.c.vehicle_id, schema.frames.c.ledger_id, schema.frames.c.seq
)

_HELD: Final = (
    "SELECT vehicle_id, ledger_id, seq, entry_hash, prev_hash FROM frames "
    "WHERE is_held AND (vehicle_id, ledger_id) IN"
)
_LEDGERS: Final = (
    "SELECT vehicle_id, ledger_id, upto, head_hash, gap_since_ms, EXISTS ("
    "SELECT 1 FROM places WHERE places.vehicle_id = ledgers.vehicle_id "
    "AND places.ledger_id = ledgers.ledger_id "
    # `PlaceState.AWAITED`, in the words of the index `awaited_places`.
    "AND places.state = 1) FROM ledgers WHERE (vehicle_id, ledger_id) IN"
)
_KNOWN: Final = (
    "SELECT vehicle_id, ledger_id, seq, entry_hash, refused FROM frames "
    "WHERE (vehicle_id, ledger_id, seq) IN"
)
_IS_FRAME: Final = (
    (schema.frames.c.vehicle_id == bindparam("of_vehicle"))
    & (schema.frames.c.ledger_id == bindparam("of_ledger"))
    & (schema.frames.c.seq == bindparam("of_seq"))
)
_RELEASE: Final = update(schema.frames).where(_IS_FRAME).values(is_held=False)
_REREAD: Final = update(schema.frames).where(_IS_FRAME).values(refused=None)


@dataclass(frozen=True, slots=True)
class Before:
    """What a workspace held before the batch, so that only changes are written."""

    vehicles: dict[VehicleId, VehicleState]
    """By id."""
    ledgers: dict[LedgerKey, Ledger]
    """By vehicle and ledger id."""

    @classmethod
    def of(cls, space: Workspace) -> Self:
        """Remember a workspace as it is."""
        return cls(dict(space.vehicles), dict(space.ledgers))


@dataclass(slots=True)
class _Wanted:
    """What a batch needs to know."""

    vehicles: set[VehicleId] = field(default_factory=set)
    ledgers: set[LedgerKey] = field(default_factory=set)
    entries: set[EntryKey] = field(default_factory=set)
    """Entries that came: perhaps again."""
    heads: set[EntryKey] = field(default_factory=set)
    """Entries that cars call their last."""
    places: set[EntryKey] = field(default_factory=set)
    """Entries that commit to a place, or whose place came."""
    greeting: set[VehicleId] = field(default_factory=set)
    """Cars that said HELLO."""
    commands: set[bytes] = field(default_factory=set)

    def add(self, record: Verified) -> None:
        """Note what one record needs."""
        header = record.frame.header
        vehicle_id = header.vehicle_id
        self.vehicles.add(vehicle_id)
        if isinstance(record, VerifiedEntry):
            if record.is_in_ledger:
                key = (vehicle_id, record.link.ledger_id, header.seq)
                self.ledgers.add(key[:2])
                self.entries.add(key)
                if commitment_of(record) != NO_PLACE:
                    self.places.add(key)
            if isinstance(record.body, Result):
                self.commands.add(record.body.request_id)
        elif isinstance(record, VerifiedPlace):
            told = record.told
            self.ledgers.add((vehicle_id, told.ledger_id))
            self.places.add((vehicle_id, told.ledger_id, told.seq))
        elif isinstance(record, VerifiedHello):
            hello = record.hello
            self.greeting.add(vehicle_id)
            self.commands.update(outcome.msg_id for outcome in hello.outcomes)
            self.ledgers.add((vehicle_id, hello.ledger_id))
            if hello.head_seq <= NUMBER_LIMIT:
                self.heads.add((vehicle_id, hello.ledger_id, hello.head_seq))


def load(
    connection: Connection,
    records: Sequence[Verified | Rejection],
    published: Iterable[bytes],
    *,
    receipted: Iterable[VehicleId] = (),
    fleet_id: bytes,
    fresh_nonce: Callable[[], bytes],
    at: Instant,
) -> Workspace:
    """Return the workspace of a batch, before anything is absorbed.

    Args:
        connection: inside a transaction, whose isolation the workspace relies on.
        records: the batch.
        published: ids of commands whose sending is to be noted with it.
        receipted: cars whose receipts are to be kept with it. They are locked as well:
            two bridges that keep receipts of one another's cars would wait in a circle.
        fleet_id: 16 bytes.
        fresh_nonce: makes challenges.
        at: when it is absorbed.
    """
    wanted = _Wanted(commands=set(published))
    sampled: set[VehicleId] = set()
    for record in records:
        if isinstance(record, VerifiedTelemetry):
            sampled.add(record.frame.header.vehicle_id)
        elif not isinstance(record, Rejection):
            wanted.add(record)
    kept = kept_in(connection)
    space = Workspace(fleet_id, _fetch(connection), fresh_nonce, at)
    if kept is not None:
        sampled -= wanted.vehicles
        space.waiting = {one for one in sampled if kept.may_wait(one)}
        sampled -= space.waiting
    vehicles = wanted.vehicles | sampled
    lock_vehicles(connection, vehicles.union(receipted))
    space.vehicles = load_vehicles(connection, vehicles)
    space.ledgers, awaiting = _load_ledgers(connection, wanted.ledgers)
    # What a ledger has not reached and does not hold is not stored.
    known = {key for key in wanted.entries if _may_be_stored(space, key)}
    known |= wanted.heads
    space.known, space.refused = _load_known(connection, known)
    space.places = load_places(connection, awaiting, wanted.places)
    space.commands = load_open_commands(connection, wanted.greeting)
    space.commands |= load_commands(connection, wanted.commands)
    return space


def load_ledger(
    connection: Connection,
    key: LedgerKey,
    *,
    fleet_id: bytes,
    fresh_nonce: Callable[[], bytes],
    at: Instant,
) -> Workspace:
    """Return the workspace of one ledger, of which no entry came; as `load` does."""
    lock_vehicles(connection, [key[0]])
    space = Workspace(fleet_id, _fetch(connection), fresh_nonce, at)
    space.vehicles = load_vehicles(connection, [key[0]])
    space.ledgers, _ = _load_ledgers(connection, [key])
    return space


def _fetch(
    connection: Connection,
) -> Callable[[EntryKey], tuple[bytes, int | None]]:
    def fetch(key: EntryKey) -> tuple[bytes, int | None]:
        columns = schema.frames.c
        query = select(columns.data, columns.refused)
        row = connection.execute(query.where(tuple_(*_place(key)) == _PLACE)).one()
        return row.data, row.refused

    return fetch


def _may_be_stored(space: Workspace, key: EntryKey) -> bool:
    ledger = space.ledgers.get(key[:2])
    return ledger is not None and (key[2] <= ledger.upto or key[2] in ledger.held)


def _load_ledgers(
    connection: Connection, keys: Iterable[LedgerKey]
) -> tuple[dict[LedgerKey, Ledger], list[LedgerKey]]:
    """Return ledgers, and which of them await a place."""
    found: dict[LedgerKey, Ledger] = {}
    awaiting: list[LedgerKey] = []
    for chunk in chunks((str(vehicle), ledger) for vehicle, ledger in keys):
        rows = look_up_named(connection, _LEDGERS, chunk)
        # Most have no gap, and so hold nothing.
        held = _load_held(
            connection,
            [(name, ledger) for name, ledger, _, _, gap, _ in rows if gap is not None],
        )
        for name, ledger_id, upto, head_hash, _, awaits in rows:
            key = (VehicleId.from_text(name), ledger_id)
            found[key] = Ledger(upto, head_hash, held.get((name, ledger_id), {}))
            if awaits:
                awaiting.append(key)
    return found, awaiting


def oldest_gaps(
    connection: Connection, keys: Iterable[LedgerKey]
) -> dict[LedgerKey, Gap]:
    """Return the oldest gap of each ledger that has one."""
    found = {}
    for key, ledger in _load_ledgers(connection, keys)[0].items():
        for gap in gaps_of(ledger, limit=1):
            found[key] = gap
    return found


def _load_held(
    connection: Connection, names: list[tuple[str, bytes]]
) -> dict[tuple[str, bytes], dict[int, Place]]:
    held: dict[tuple[str, bytes], dict[int, Place]] = {}
    if names:
        rows = look_up_named(connection, _HELD, names)
        for name, ledger_id, seq, entry_hash, prev_hash in rows:
            place = Place(seq, entry_hash, prev_hash)
            held.setdefault((name, ledger_id), {})[seq] = place
    return held


def open_gaps(connection: Connection, older_than: int) -> list[OpenGap]:
    """Return the gaps that have been open since before `older_than`, UTC ms."""
    table = schema.ledgers.c
    query = select(table.vehicle_id, table.ledger_id).where(
        table.gap_since_ms <= older_than
    )
    keys = [
        (VehicleId.from_text(row.vehicle_id), row.ledger_id)
        for row in connection.execute(query)
    ]
    found = []
    for key, ledger in _load_ledgers(connection, keys)[0].items():
        # A break is no gap: nothing is missing before it.
        missing = gaps_of(ledger, limit=HELD_LIMIT)
        if missing:
            found.append(OpenGap(*key, missing))
    return found


def _load_known(
    connection: Connection, keys: Iterable[EntryKey]
) -> tuple[dict[EntryKey, bytes], set[EntryKey]]:
    found: dict[EntryKey, bytes] = {}
    refused: set[EntryKey] = set()
    for chunk in chunks(_place(key) for key in keys):
        rows = look_up_named(connection, _KNOWN, chunk)
        for name, ledger_id, seq, entry_hash, reason in rows:
            key = (VehicleId.from_text(name), ledger_id, seq)
            found[key] = entry_hash
            if reason is not None:
                refused.add(key)
    return found, refused


def write(
    connection: Connection,
    space: Workspace,
    before: Before,
) -> None:
    """Write what a batch leaves behind; all of it, or nothing with the transaction."""
    now = space.at.utc_ms
    _write_frames(connection, space, now)
    _write_ledgers(connection, space, before, now)
    write_vehicles(
        connection,
        {
            vehicle_id: state
            for vehicle_id, state in space.vehicles.items()
            if before.vehicles.get(vehicle_id) is not state
        },
    )
    write_outbox(connection, space.outbox, now=now)
    _write_rentals(connection, space, now)
    flag_lost(connection, space, now=now)
    settle_configurations(connection, space, now=now)
    write_rotations(connection, space.rotations)
    _write_telemetry(connection, space)
    write_places(connection, space.changed_places)
    write_steps(connection, space.steps, now=now)
    write_letters(connection, space.dead, now=now)
    for record in space.changed_commands.values():
        write_command(connection, record)


def _write_telemetry(connection: Connection, space: Workspace) -> None:
    write_telemetry(
        connection,
        [record.frame.data for record in space.telemetry],
        now=space.at.utc_ms,
    )
    kept = kept_in(connection)
    if kept is None:
        return
    for record in space.telemetry:
        header = record.frame.header
        if header.vehicle_id in space.waiting:
            told = Told.by(header, record.telemetry, at=space.at)
            kept.wait(header.vehicle_id, told)


def _write_frames(connection: Connection, space: Workspace, now: int) -> None:
    released = set(space.released)
    stored = {row.key for row in space.frames}
    if space.frames:
        rows = [
            (
                *_place(row.key),
                row.entry.entry_hash,
                row.entry.link.prev_hash,
                row.entry.frame.data,
                now,
                row.key not in released,
                None if row.entry.refused is None else int(row.entry.refused),
            )
            for row in space.frames
        ]
        insert_many(connection, schema.frames, rows)
    earlier = [_frame(key) for key in space.released if key not in stored]
    if earlier:
        connection.execute(_RELEASE, earlier)
    reread = [_frame(key) for key in space.reread]
    if reread:
        connection.execute(_REREAD, reread)


def _frame(key: EntryKey) -> dict[str, object]:
    vehicle, ledger_id, seq = _place(key)
    return {"of_vehicle": vehicle, "of_ledger": ledger_id, "of_seq": seq}


def _write_ledgers(
    connection: Connection, space: Workspace, before: Before, now: int
) -> None:
    rows = []
    for (vehicle_id, ledger_id), ledger in space.ledgers.items():
        old = before.ledgers.get((vehicle_id, ledger_id))
        if ledger is old:
            continue
        since_ms = now if ledger.held else None
        chain = (ledger.upto, ledger.head_hash)
        if ledger.held and old is not None and old.held and old.upto == ledger.upto:
            # The same gap as before: its age and its alarm stay.
            table = schema.ledgers
            connection.execute(
                update(table)
                .where(
                    table.c.vehicle_id == str(vehicle_id),
                    table.c.ledger_id == ledger_id,
                )
                .values(upto=ledger.upto, head_hash=ledger.head_hash)
            )
            continue
        rows.append((str(vehicle_id), ledger_id, *chain, since_ms, False))
    if rows:
        upsert_many(connection, schema.ledgers, rows)


def _write_rentals(connection: Connection, space: Workspace, now: int) -> None:
    rows = [
        {
            "rental_id": row.rental_id,
            "vehicle_id": str(row.vehicle_id),
            "state": row.state,
            "ledger_id": row.ledger_id,
            "seq": row.seq,
            "report": None if row.report is None else msgspec.json.encode(row.report),
            "needs_close": False,
            "updated_ms": now,
            "has_places": True,
        }
        for row in space.rentals.values()
    ]
    if rows:
        # An entry that is understood late does not overwrite what came after it.
        connection.execute(upsert(connection, schema.rentals, rising="seq"), rows)


def _place(key: EntryKey) -> tuple[str, bytes, int]:
    return str(key[0]), key[1], key[2]
