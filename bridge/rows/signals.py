"""Telling the other bridges on the same PostgreSQL what a transaction changed."""

from sqlalchemy import Connection, func, select

from bridge.database import Topic


def tell_bridges(connection: Connection, topic: Topic, word: str = "") -> None:
    """Tell every bridge that listens, once the transaction commits.

    PostgreSQL drops repeated words of one transaction. On SQLite there is nobody else.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(topic.value, word)))
