"""How many rows are in what state, for metrics; no row itself is read."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from bridge import schema
from bridge.commands import OPEN
from bridge.rows.approvals import pending


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of what the store holds."""

    online: int
    """Cars that consumers were told are online."""
    open_commands: dict[str, int]
    """Commands that wait for a signed word, by state."""
    letters: dict[str, int]
    """Dead letters that are kept, by kind."""
    approvals: int = 0
    """Orders that wait for a second person."""
    first_over_ms: int | None = None
    """When the first of them is over, UTC ms; None if none waits."""


def count_rows(connection: Connection) -> Counts:
    """Count; each statement reads an index or a table with a bound of its own."""
    cars, commands, letters = schema.vehicles, schema.commands, schema.dead_letters
    online = connection.execute(
        select(func.count()).select_from(cars).where(schema.IS_TOLD_ONLINE)
    ).scalar_one()
    waiting = connection.execute(
        select(commands.c.state, func.count())
        .where(commands.c.state.in_([state.value for state in OPEN]))
        .group_by(commands.c.state)
    )
    kept = connection.execute(
        select(letters.c.kind, func.count()).group_by(letters.c.kind)
    )
    return Counts(
        online,
        {state: count for state, count in waiting},  # noqa: C416 - rows are no pairs
        {kind: count for kind, count in kept},  # noqa: C416 - rows are no pairs
        *pending(connection),
    )
