"""The tables of the first release."""

from typing import Final

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

VEHICLE_TEXT: Final = 26
UUID_TEXT: Final = 36

_ID: Final = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "meta",
        Column("name", String(32), primary_key=True),
        Column("value", String(128), nullable=False),
    )
    op.create_table(
        "frames",
        Column("id", _ID, primary_key=True),
        Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
        Column("ledger_id", LargeBinary(8), nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("entry_hash", LargeBinary(32), nullable=False),
        Column("prev_hash", LargeBinary(32), nullable=False),
        Column("data", LargeBinary, nullable=False),
        Column("received_ms", BigInteger, nullable=False),
        Column("is_held", Boolean, nullable=False),
        Column("refused", SmallInteger),
        UniqueConstraint("vehicle_id", "ledger_id", "seq", name="one_entry_per_place"),
    )
    op.create_index(
        "held_frames",
        "frames",
        ["vehicle_id", "ledger_id", "seq"],
        sqlite_where=text("is_held"),
        postgresql_where=text("is_held"),
    )
    op.create_table(
        "ledgers",
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("ledger_id", LargeBinary(8), primary_key=True),
        Column("upto", BigInteger, nullable=False),
        Column("head_hash", LargeBinary(32), nullable=False),
        Column("gap_since_ms", BigInteger),
        Column("is_gap_told", Boolean, nullable=False),
    )
    op.create_index(
        "open_gaps",
        "ledgers",
        ["gap_since_ms"],
        sqlite_where=text("gap_since_ms IS NOT NULL"),
        postgresql_where=text("gap_since_ms IS NOT NULL"),
    )
    op.create_table(
        "receipts",
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("ledger_id", LargeBinary(8), primary_key=True),
        Column("upto", BigInteger, primary_key=True),
        Column("data", LargeBinary, nullable=False),
        Column("signed_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "vehicles",
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("state", LargeBinary, nullable=False),
        Column("heard_ms", BigInteger, nullable=False),
        Column("is_told_online", Boolean, nullable=False),
    )
    op.create_index(
        "cars_told_online",
        "vehicles",
        ["heard_ms"],
        sqlite_where=text("is_told_online"),
        postgresql_where=text("is_told_online"),
    )
    op.create_table(
        "telemetry",
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("slot", SmallInteger, primary_key=True),
        Column("data", LargeBinary, nullable=False),
        Column("received_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "rentals",
        Column("rental_id", LargeBinary(16), primary_key=True),
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("state", String(16), nullable=False),
        Column("ledger_id", LargeBinary(8), nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("report", LargeBinary),
        Column("needs_close", Boolean, nullable=False),
        Column("updated_ms", BigInteger, nullable=False),
    )
    op.create_index(
        "rentals_of_vehicle",
        "rentals",
        ["vehicle_id", "state"],
    )
    op.create_table(
        "places",
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("ledger_id", LargeBinary(8), primary_key=True),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("state", SmallInteger, nullable=False),
        Column("commitment", LargeBinary(32), nullable=False),
        Column("prev_hash", LargeBinary(32), nullable=False),
        Column("rental_id", LargeBinary(16), nullable=False),
        Column("arrivals", SmallInteger, nullable=False),
        Column("salt", LargeBinary(16)),
        Column("place", LargeBinary(12)),
    )
    op.create_index(
        "places_of_rental",
        "places",
        ["rental_id"],
    )
    op.create_index(
        "awaited_places",
        "places",
        ["vehicle_id", "ledger_id"],
        sqlite_where=text("state = 1"),
        postgresql_where=text("state = 1"),
    )
    op.create_table(
        "outbox",
        Column("position", _ID, primary_key=True),
        Column("event_id", String(UUID_TEXT), nullable=False, unique=True),
        Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
        Column("type", String(64), nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_ms", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "cursors",
        Column("sink", String(64), primary_key=True),
        Column("position", BigInteger, nullable=False),
    )
    op.create_table(
        "undelivered",
        Column("sink", String(64), primary_key=True),
        Column("position", _ID, ForeignKey("outbox.position"), primary_key=True),
        Column("reason", String(512), nullable=False),
        Column("given_up_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "dead_letters",
        Column("id", _ID, primary_key=True),
        Column("kind", String(16), nullable=False),
        Column("topic", String(256), nullable=False),
        Column("data", LargeBinary, nullable=False),
        Column("reason", String(512), nullable=False),
        Column("received_ms", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "commands",
        Column("command_id", LargeBinary(16), primary_key=True),
        Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
        Column("idempotency_key", String(128)),
        Column("state", String(16), nullable=False),
        Column("version", Integer, nullable=False),
        Column("rental_id", LargeBinary(16), nullable=False),
        Column("opcode", Integer, nullable=False),
        Column("expires_ms", BigInteger, nullable=False),
        Column("record", LargeBinary, nullable=False),
        UniqueConstraint("vehicle_id", "idempotency_key", name="one_command_per_key"),
    )
    op.create_index(
        "open_commands",
        "commands",
        ["state", "vehicle_id"],
    )
    op.create_index(
        "commands_of_rental",
        "commands",
        ["rental_id"],
    )
    op.create_table(
        "rotations",
        Column("id", _ID, primary_key=True),
        Column("vehicle_id", String(VEHICLE_TEXT), nullable=False),
        Column("ledger_id", LargeBinary(8), nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("old_key", LargeBinary, nullable=False),
        Column("new_key", LargeBinary, nullable=False),
        UniqueConstraint(
            "vehicle_id", "ledger_id", "seq", name="one_rotation_per_place"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "configurations",
        Column("vehicle_id", String(VEHICLE_TEXT), primary_key=True),
        Column("kind", SmallInteger, primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("sha256", LargeBinary(32), nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("state", String(16), nullable=False),
        Column("code", Integer),
        Column("changed_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "sequences",
        Column("key_id", LargeBinary(8), primary_key=True),
        Column("session_id", LargeBinary(16), primary_key=True),
        Column("lane", SmallInteger, primary_key=True),
        Column("reserved", BigInteger, nullable=False),
    )
