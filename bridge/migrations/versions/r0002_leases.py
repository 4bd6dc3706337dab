"""Who does what only one bridge at a time may do."""

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table, and drop the first release's own note of its schema."""
    op.create_table(
        "leases",
        Column("name", String(80), primary_key=True),
        Column("holder", String(64), nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("until_ms", BigInteger, nullable=False),
    )
    op.execute("DELETE FROM meta WHERE name = 'schema'")
