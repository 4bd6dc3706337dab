"""Places say when they came, so that those without an entry are erased in time (K25).

Of those that are there nobody knows it: they count from now. So do those that a bridge
of the release before writes while it still runs beside this one. The default says it,
since to write it into each row would keep a large store closed for minutes.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, text

from bridge.machine_clock import wall_ms

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column, and an index of those that wait for their entry."""
    now = text(str(wall_ms()))
    op.add_column(
        "places", Column("came_ms", BigInteger, nullable=False, server_default=now)
    )
    op.create_index(
        "early_places",
        "places",
        ["came_ms"],
        sqlite_where=text("state = 0"),
        postgresql_where=text("state = 0"),
    )
