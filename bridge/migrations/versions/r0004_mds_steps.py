"""What a city is told of the fleet (MDS 2.0)."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
)

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table of steps."""
    op.create_table(
        "mds_steps",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("event_id", LargeBinary(16), nullable=False),
        Column("vehicle_id", String(26), nullable=False),
        Column("state", String(16), nullable=False),
        Column("type", String(32), nullable=False),
        Column("at_ms", BigInteger, nullable=False),
        Column("stored_ms", BigInteger, nullable=False),
        Column("rental_id", LargeBinary(16), nullable=False),
        Column("ledger_id", LargeBinary(8), nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("is_inferred", Boolean, nullable=False),
        Column("energy_pct", SmallInteger),
        Column("is_electric", Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("mds_steps_at", "mds_steps", ["at_ms", "id"])
    op.create_index("mds_steps_of_vehicle", "mds_steps", ["vehicle_id", "id"])
    op.create_index("mds_steps_of_rental", "mds_steps", ["rental_id"])
