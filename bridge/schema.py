"""The tables of the bridge's store, one declaration for SQLite and PostgreSQL.

Ids of vehicles are their canonical text, so that a person can read the database; every
other id is bytes. Times are UTC ms. Nothing is deleted here except what has a bound of
its own (telemetry and dead letters) and places, which are erased on request.

What changes here needs a step in `bridge.migrations.versions`; a test compares the two.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
    true,
)

from bridge.place_seal import KEY_SIZE, SEALED_SIZE

VEHICLE_TEXT: Final = 26
UUID_TEXT: Final = 36

# SQLite gives out row ids by itself only for a column that is exactly INTEGER.
_ID: Final = BigInteger().with_variant(Integer, "sqlite")

metadata: Final = MetaData()

meta: Final = Table(
    "meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(128), nullable=False),
)

frames: Final = Table(
    "frames",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
    Column("ledger_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("entry_hash", LargeBinary(32), nullable=False),
    Column("prev_hash", LargeBinary(32), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    # Stored and not told yet, because a gap or a break before it is open.
    Column("is_held", Boolean, nullable=False),
    # Why it is refused for good; the car is told by receipt.
    Column("refused", SmallInteger),
    UniqueConstraint("vehicle_id", "ledger_id", "seq", name="one_entry_per_place"),
)
Index(
    "held_frames",
    frames.c.vehicle_id,
    frames.c.ledger_id,
    frames.c.seq,
    sqlite_where=frames.c.is_held,
    postgresql_where=frames.c.is_held,
)

ledgers: Final = Table(
    "ledgers",
    metadata,
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("ledger_id", LargeBinary(8), primary_key=True),
    Column("upto", BigInteger, nullable=False),
    Column("head_hash", LargeBinary(32), nullable=False),
    # Since when entries have been held, and whether the alarm about it went out.
    Column("gap_since_ms", BigInteger),
    Column("is_gap_told", Boolean, nullable=False),
)
Index(
    "open_gaps",
    ledgers.c.gap_since_ms,
    sqlite_where=ledgers.c.gap_since_ms.is_not(None),
    postgresql_where=ledgers.c.gap_since_ms.is_not(None),
)

receipts: Final = Table(
    "receipts",
    metadata,
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("ledger_id", LargeBinary(8), primary_key=True),
    Column("upto", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("signed_ms", BigInteger, nullable=False),
)

vehicles: Final = Table(
    "vehicles",
    metadata,
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    # `bridge.vehicle.VehicleState` in JSON: read and written whole.
    Column("state", LargeBinary, nullable=False),
    # Its `presence`, for finding cars that fell silent.
    Column("heard_ms", BigInteger, nullable=False),
    Column("is_told_online", Boolean, nullable=False),
)
Index(
    "cars_told_online",
    vehicles.c.heard_ms,
    sqlite_where=vehicles.c.is_told_online,
    postgresql_where=vehicles.c.is_told_online,
)

IS_TOLD_ONLINE: Final = text("vehicles.is_told_online")
"""`vehicles.c.is_told_online` in the words of `cars_told_online`: SQLite looks into an
index of some rows only for the very same words, and SQLAlchemy would say "= 1"."""

telemetry: Final = Table(
    "telemetry",
    metadata,
    # One row for each batch, so that a frame costs the disk its own bytes and no page.
    Column("id", _ID, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    # Frames in rows up to this one, since the first ever.
    Column("upto", BigInteger, nullable=False),
    # Whole frames, one behind the other; each says how long it is.
    Column("data", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
Index("telemetry_by_time", telemetry.c.received_ms)

rentals: Final = Table(
    "rentals",
    metadata,
    Column("rental_id", LargeBinary(16), primary_key=True),
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("ledger_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("report", LargeBinary),
    # Open in a ledger that is lost: nobody but a person can end it.
    Column("needs_close", Boolean, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # Whether it may have places that are not erased.
    Column("has_places", Boolean, nullable=False, server_default=true()),
)

Index("rentals_of_vehicle", rentals.c.vehicle_id, rentals.c.state)
Index(
    "rentals_with_places",
    rentals.c.updated_ms,
    sqlite_where=rentals.c.has_places,
    postgresql_where=rentals.c.has_places,
)

HAS_PLACES: Final = text("rentals.has_places")
"""`rentals.c.has_places` in the words of `rentals_with_places`, as `IS_TOLD_ONLINE`."""

# Where customers were, and nothing else: it can be emptied (`bridge.places`).
places: Final = Table(
    "places",
    metadata,
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("ledger_id", LargeBinary(8), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("state", SmallInteger, nullable=False),
    # Of the entry; empty before it came.
    Column("commitment", LargeBinary(32), nullable=False),
    Column("prev_hash", LargeBinary(32), nullable=False),
    Column("rental_id", LargeBinary(16), nullable=False),
    Column("arrivals", SmallInteger, nullable=False),
    # By `bridge.place_seal`; null before it came, and after it was erased.
    Column("sealed", LargeBinary(SEALED_SIZE)),
    # When a place came that waits for its entry; of others it says nothing.
    Column("came_ms", BigInteger, nullable=False),
)
Index("places_of_rental", places.c.rental_id)
Index(
    "awaited_places",
    places.c.vehicle_id,
    places.c.ledger_id,
    sqlite_where=places.c.state == 1,
    postgresql_where=places.c.state == 1,
)
Index(
    "early_places",
    places.c.came_ms,
    sqlite_where=places.c.state == 0,
    postgresql_where=places.c.state == 0,
)

IS_EARLY: Final = text("places.state = 0")
"""`PlaceState.EARLY` in the words of `early_places`, as `IS_TOLD_ONLINE`."""

# What opens them, and goes into no backup of the store (`bridge.backup`): a place whose
# row here is deleted is erased, in old backups too.
place_keys: Final = Table(
    "place_keys",
    metadata,
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("ledger_id", LargeBinary(8), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary(KEY_SIZE), nullable=False),
)

# What a city is told of the fleet (`bridge.mds`); no position stands in it.
mds_steps: Final = Table(
    "mds_steps",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("event_id", LargeBinary(16), nullable=False),
    Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
    Column("state", String(16), nullable=False),
    Column("type", String(32), nullable=False),
    # When it happened, which never falls within one vehicle, and when it was stored.
    Column("at_ms", BigInteger, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
    Column("rental_id", LargeBinary(16), nullable=False),
    # The entry that says so, whose place it has; zeros and 0 for none.
    Column("ledger_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("is_inferred", Boolean, nullable=False),
    Column("energy_pct", SmallInteger),
    Column("is_electric", Boolean, nullable=False),
    sqlite_autoincrement=True,
)
Index("mds_steps_at", mds_steps.c.at_ms, mds_steps.c.id)
Index("mds_steps_of_vehicle", mds_steps.c.vehicle_id, mds_steps.c.id)
Index("mds_steps_of_rental", mds_steps.c.rental_id)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("position", _ID, primary_key=True),
    Column("event_id", String(UUID_TEXT), nullable=False, unique=True),
    Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
    Column("type", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

cursors: Final = Table(
    "cursors",
    metadata,
    Column("sink", String(64), primary_key=True),
    # Everything up to here was taken by this sink.
    Column("position", BigInteger, nullable=False),
)

undelivered: Final = Table(
    "undelivered",
    metadata,
    Column("sink", String(64), primary_key=True),
    Column("position", _ID, ForeignKey(outbox.c.position), primary_key=True),
    Column("reason", String(512), nullable=False),
    Column("given_up_ms", BigInteger, nullable=False),
)
# Each event that goes is looked for here, by the foreign key too.
Index("undelivered_by_position", undelivered.c.position)

dead_letters: Final = Table(
    "dead_letters",
    metadata,
    Column("id", _ID, primary_key=True),
    # `bridge.workspace.LetterKind`.
    Column("kind", String(16), nullable=False),
    Column("topic", String(256), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("reason", String(512), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

commands: Final = Table(
    "commands",
    metadata,
    Column("command_id", LargeBinary(16), primary_key=True),
    Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
    Column("idempotency_key", String(128)),
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("rental_id", LargeBinary(16), nullable=False),
    Column("opcode", Integer, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    # `bridge.commands.CommandRecord` in JSON; the columns above are for finding it.
    Column("record", LargeBinary, nullable=False),
    UniqueConstraint("vehicle_id", "idempotency_key", name="one_command_per_key"),
)
Index("open_commands", commands.c.state, commands.c.vehicle_id)
Index("commands_of_rental", commands.c.rental_id)

rotations: Final = Table(
    "rotations",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
    Column("ledger_id", LargeBinary(8), nullable=False),
    # The last entry that the old key signs.
    Column("seq", BigInteger, nullable=False),
    # Raw public keys.
    Column("old_key", LargeBinary, nullable=False),
    Column("new_key", LargeBinary, nullable=False),
    UniqueConstraint("vehicle_id", "ledger_id", "seq", name="one_rotation_per_place"),
    sqlite_autoincrement=True,
)

configurations: Final = Table(
    "configurations",
    metadata,
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    # `bridge.rows.configurations.ConfigState`.
    Column("state", String(16), nullable=False),
    # Why the car refused it.
    Column("code", Integer),
    Column("changed_ms", BigInteger, nullable=False),
    # Which approval let it go last, if any; the second person's word stands there.
    Column("approval_id", LargeBinary(16)),
)

sequences: Final = Table(
    "sequences",
    metadata,
    Column("key_id", LargeBinary(8), primary_key=True),
    Column("session_id", LargeBinary(16), primary_key=True),
    Column("lane", SmallInteger, primary_key=True),
    # No sequence up to here may be given out again.
    Column("reserved", BigInteger, nullable=False),
)

# What only one bridge at a time may do (`bridge.rows.leases`).
leases: Final = Table(
    "leases",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("holder", String(64), nullable=False),
    # Rises with every change of the holder: what an earlier one still does is refused.
    Column("epoch", BigInteger, nullable=False),
    # UTC ms of the database's own clock.
    Column("until_ms", BigInteger, nullable=False),
)

# Who ordered or changed what; each row is chained to the one before (`bridge.audit`).
audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("what", String(512), nullable=False),
    Column("outcome", String(512), nullable=False),
    # The row that this one answers, or 0.
    Column("asked", BigInteger, nullable=False),
    Column("prev_hash", LargeBinary(32), nullable=False),
    Column("row_hash", LargeBinary(32), nullable=False),
)

# Orders that need a second person (`bridge.approvals`).
approvals: Final = Table(
    "approvals",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("approval_id", LargeBinary(16), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("asked_by", String(64), nullable=False),
    # Tells a repeated request from another one.
    Column("digest", LargeBinary(32), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    # Until when what was approved may be given; null once it is, and before.
    Column("carry_out_ms", BigInteger),
    # `bridge.approvals.Approval` in JSON; the columns above are for finding it.
    Column("record", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
Index("approvals_by_state", approvals.c.state, approvals.c.expires_ms)
Index("approvals_by_request", approvals.c.digest)

# When a caller last reached a vehicle with an order that counts (`bridge.approvals`).
reached: Final = Table(
    "reached",
    metadata,
    Column("caller", String(64), primary_key=True),
    Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)
Index("reached_by_time", reached.c.at_ms)
