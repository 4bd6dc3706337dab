"""Who ordered or changed what (K28)."""

from alembic import op
from sqlalchemy import BigInteger, Column, LargeBinary, String

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table of the audit trail."""
    op.create_table(
        "audit",
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("at_ms", BigInteger, nullable=False),
        Column("who", String(64), nullable=False),
        Column("role", String(16), nullable=False),
        Column("what", String(512), nullable=False),
        Column("outcome", String(512), nullable=False),
        Column("asked", BigInteger, nullable=False),
        Column("prev_hash", LargeBinary(32), nullable=False),
        Column("row_hash", LargeBinary(32), nullable=False),
    )
