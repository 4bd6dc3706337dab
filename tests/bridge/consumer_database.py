"""The database of a consumer that does as docs/api.md tells it (9)."""

import sqlite3
from pathlib import Path


class ConsumerDatabase:
    """Keeps an event's effect and its id in one transaction; a known id has no effect.

    The id's unique index is all that drops a repetition: neither a producer's session
    nor a stream's window is asked.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("CREATE TABLE inbox (id TEXT PRIMARY KEY)")
        self._connection.execute("CREATE TABLE effects (id TEXT, body BLOB)")

    def take(self, event_id: str, body: bytes) -> None:
        """Let an event have its effect, unless it had it."""
        known = "INSERT INTO inbox VALUES (?) ON CONFLICT DO NOTHING"
        self._connection.execute("BEGIN IMMEDIATE")
        if self._connection.execute(known, (event_id,)).rowcount:
            self._connection.execute(
                "INSERT INTO effects VALUES (?, ?)", (event_id, body)
            )
        self._connection.execute("COMMIT")

    def effects(self) -> list[tuple[str, bytes]]:
        """Return every effect, in the order in which they came about."""
        rows = self._connection.execute("SELECT id, body FROM effects ORDER BY rowid")
        return [(str(event_id), bytes(body)) for event_id, body in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
