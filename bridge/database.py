"""What a store stands on: one SQLite file, or a PostgreSQL that bridges share.

A database gives transactions and nothing else. `bridge.sqlite_database` and
`bridge.postgres_database` differ in how they keep two writers apart, in what they can
tell other bridges, and in what it takes to forget; tables and statements are the same
(`bridge.schema`, `bridge.rows`).
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import StoreError, UndecidedError

T = TypeVar("T")


@unique
class Topic(StrEnum):
    """What a bridge that wrote tells the others on the same database."""

    OUTBOX = "freefloat_outbox"
    """There are new events."""
    COMMANDS = "freefloat_commands"
    """A command changed; the word is its id in hex."""
    KEYS = "freefloat_keys"
    """A vehicle changed its key."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One word of another bridge, or of this one: nobody tells them apart."""

    topic: Topic
    """What it is about."""
    word: str
    """Empty where the topic says it all."""


class Database(Protocol):
    """Transactions on one engine."""

    @property
    def name(self) -> str:
        """How messages call it; without a password."""

    @property
    def is_shared(self) -> bool:
        """Whether other bridges may write to it while this one runs."""

    def open(self) -> None:
        """Make it ready and bring its tables up to date; blocks.

        Raises:
            SettingsError: it cannot be used; nothing is held.
        """

    def close(self) -> None:
        """Let go of it; blocks."""

    def transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        """Do `work` in one transaction; blocks.

        Raises:
            UndecidedError: the connection was lost while it committed.
            StoreError: it was undone whole.
        """

    def forget(self) -> None:
        """Make what was overwritten unreadable in what the database keeps; blocks.

        Raises:
            StoreError: it may still be readable; call again.
        """

    def signals(self) -> AsyncIterator[Signal]:
        """Yield what bridges on this database tell one another, until cancelled.

        Words may be lost while there is no connection. After every (re)connection one
        `OUTBOX` and one `KEYS` signal are yielded, so that nothing waits for ever.
        """


def transact(engine: Engine | None, work: Callable[[Connection], T]) -> T:
    """Do `work` in one transaction of an engine; both databases do it like this.

    Raises:
        UndecidedError: the connection was lost while it committed.
        StoreError: it was undone whole, or the database is not open.
    """
    if engine is None:
        raise StoreError("the store is not open")
    is_worked = False
    try:
        with engine.begin() as connection:
            done = work(connection)
            is_worked = True
    except (SQLAlchemyError, OSError) as error:
        said = sentence(error)
        if is_worked and getattr(error, "connection_invalidated", False):
            raise UndecidedError(f"the store may have committed: {said}") from error
        raise StoreError(f"the store did not commit: {said}") from error
    return done


def sentence(error: Exception) -> str:
    """Return what a driver said, in one line."""
    origin = getattr(error, "orig", None)
    return " ".join(str(origin or error).split())
