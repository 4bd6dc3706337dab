"""A configuration names the approval that let it go, for the signer to see (K28)."""

from alembic import op
from sqlalchemy import Column, LargeBinary

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; what was wanted before names none."""
    op.add_column("configurations", Column("approval_id", LargeBinary(16)))
