"""Telemetry as a log of batches instead of a ring for each car (ADR 18).

What the rings hold is let go: minutes of samples, which may be lost at any time.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table anew."""
    op.drop_table("telemetry")
    op.create_table(
        "telemetry",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("received_ms", BigInteger, nullable=False),
        Column("upto", BigInteger, nullable=False),
        Column("data", LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("telemetry_by_time", "telemetry", ["received_ms"])
