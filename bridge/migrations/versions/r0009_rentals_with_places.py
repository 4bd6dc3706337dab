"""Rentals say whether they may have places, so that retention asks no others (K25).

All of them do at first, since asking the places of every rental would keep a large
store closed for minutes: retention finds those that have none, piece by piece.
"""

from alembic import op
from sqlalchemy import Boolean, Column, text, true

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, an index of those, and one of what consumers did not want."""
    column = Column("has_places", Boolean, nullable=False, server_default=true())
    op.add_column("rentals", column)
    op.create_index(
        "rentals_with_places",
        "rentals",
        ["updated_ms"],
        sqlite_where=text("has_places"),
        postgresql_where=text("has_places"),
    )
    op.create_index("undelivered_by_position", "undelivered", ["position"])
