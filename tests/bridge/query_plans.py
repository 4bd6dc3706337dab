"""How an engine finds the rows of a statement, and what that costs it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, Engine, event, text

_STRIDE: Final = 10
"""SQLite tells of so many steps of its machine at once."""

_ROWS_READ: Final = text(
    "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_all_tables"
    " WHERE schemaname = 'public'"
)
"""Of our tables, in this transaction, foreign keys included."""


@contextlib.contextmanager
def plans_of(engine: Engine) -> Iterator[list[str]]:
    """Yield a list that gets each step of SQLite's plan of each statement within."""
    plans: list[str] = []

    def explain(
        _c: Any, cursor: Any, query: str, values: Any, _context: Any, is_many: bool
    ) -> None:
        one = values[0] if is_many else values
        found = cursor.execute(f"EXPLAIN QUERY PLAN {query}", one).fetchall()
        plans.extend(row[3] for row in found)

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def effort_of(connection: Connection, work: Callable[[], object]) -> int:
    """Return what `work` costs: steps of SQLite's machine, or rows PostgreSQL reads."""
    if connection.dialect.name == "postgresql":
        before = connection.execute(_ROWS_READ).scalar_one()
        work()
        return int(connection.execute(_ROWS_READ).scalar_one() - before)
    strides = 0

    def count() -> int:
        nonlocal strides
        strides += 1
        return 0  # go on

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(count, _STRIDE)
    try:
        work()
    finally:
        driver.set_progress_handler(None, 0)
    return strides * _STRIDE
