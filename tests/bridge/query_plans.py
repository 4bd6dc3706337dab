"""How SQLite finds the rows of a statement."""

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event


@contextlib.contextmanager
def plans_of(engine: Engine) -> Iterator[list[str]]:
    """Yield a list that gets each step of the plan of each statement in the block."""
    plans: list[str] = []

    def explain(_c: Any, cursor: Any, text: str, values: Any, *_: Any) -> None:
        found = cursor.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
        plans.extend(row[3] for row in found)

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)
