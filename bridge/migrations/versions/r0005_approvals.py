"""Orders that need a second person, and which vehicles callers reached (K28)."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables of approvals and of the vehicles that callers reached."""
    op.create_table(
        "approvals",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("approval_id", LargeBinary(16), nullable=False, unique=True),
        Column("state", String(16), nullable=False),
        Column("asked_by", String(64), nullable=False),
        Column("digest", LargeBinary(32), nullable=False),
        Column("expires_ms", BigInteger, nullable=False),
        Column("carry_out_ms", BigInteger),
        Column("record", LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("approvals_by_state", "approvals", ["state", "expires_ms"])
    op.create_index("approvals_by_request", "approvals", ["digest"])
    op.create_table(
        "reached",
        Column("caller", String(64), primary_key=True),
        Column("vehicle_id", String(26), primary_key=True),
        Column("at_ms", BigInteger, nullable=False),
    )
    op.create_index("reached_by_time", "reached", ["at_ms"])
