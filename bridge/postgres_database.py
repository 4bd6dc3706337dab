"""PostgreSQL 13 or newer, shared by every bridge of a fleet.

Rule 1: what a commit says is on disk. `synchronous_commit` is raised to *on* where a
server is set lower, since a bridge acknowledges what it committed (I-23).
Rule 2: two batches that hold frames of one car go one after the other, whichever bridge
has them: `bridge.rows.locks` takes the cars first, in one order for everybody.
Rule 3: nothing waits for ever. Statements, locks and idle transactions have limits, a
peer that is silently gone is noticed by TCP, and one whose machine answers while it
does not, by us (`bridge.answering_connection`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bridge.answering_connection import AnsweringConnection
from bridge.database import Signal, Topic, sentence, transact
from bridge.errors import SettingsError
from bridge.migrations.migration import migrate
from bridge.postgres_tls import PostgresTls, tls_arguments

CONNECTIONS: Final = 4
"""One that writes, two that read, one to spare; 25 bridges fit PostgreSQL's default of
100 connections."""

CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_MS: Final = 15_000
"""A batch takes about 50 ms; who waits this long waits for something that is broken."""
LOCK_TIMEOUT_MS: Final = 10_000
IDLE_TIMEOUT_MS: Final = 30_000
"""A bridge that froze inside a transaction loses it, and its locks with it."""
PEER_TIMEOUT_MS: Final = 10_000
"""How long TCP waits for an acknowledgement of what was sent (tcp_user_timeout)."""

RECONNECT_S: Final = 2.0
"""Between attempts to listen again: words that were lost meanwhile are made up for."""

_WEAK: Final = ("off", "local")
"""Values of synchronous_commit that lose commits at a power cut or a failover."""

T = TypeVar("T")


class PostgresDatabase:
    """One database; `open` it first and `close` it last."""

    is_shared = True

    def __init__(
        self, url: str, password: str | None = None, tls: PostgresTls | None = None
    ) -> None:
        """Take an address such as ``postgresql://bridge@db.example/freefloat``.

        Raises:
            SettingsError: it is no such address, or holds a password itself, or `tls`
                does not seal the way there (`bridge.postgres_tls`).
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SettingsError(
                "store.url is no database's address",
                advice="write it like postgresql://user@host:5432/database",
            ) from error
        if parsed.get_backend_name() != "postgresql":
            raise SettingsError(
                f"store.url names a {parsed.get_backend_name()} database",
                advice="a bridge stores in PostgreSQL (store.url) or SQLite "
                "(store.path)",
            )
        if parsed.password:
            raise SettingsError(
                "store.url holds a password, which ends up in logs and backups",
                advice="put it into a file of its own, mode 0600, and name that file "
                "in store.password_file",
            )
        self._url = parsed.set(drivername="postgresql+psycopg", password=password)
        dialect: Dialect = self._url.get_dialect()()
        # libpq itself reads an address of several hosts in another way.
        self._place: dict[str, Any] = dict(dialect.create_connect_args(self._url)[1])
        hosts = str(self._place.get("host", "")).split(",")
        self._arguments = {
            **_connect_arguments(),
            **tls_arguments(parsed, hosts, tls or PostgresTls()),
        }
        self._engine: Engine | None = None

    @property
    def name(self) -> str:
        """Its address without the password."""
        return self._url.set(drivername="postgresql", password=None).render_as_string()

    def open(self) -> None:
        """Connect, and bring the tables up to date; blocks.

        Raises:
            SettingsError: it cannot be reached or used, or a newer freefloat made it.
        """
        engine = create_engine(
            self._url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            # A connection that a restart of the server killed is replaced unseen.
            pool_pre_ping=True,
            connect_args=self._arguments,
        )
        event.listen(engine, "do_connect", _connect)
        event.listen(engine, "connect", _prepare)
        try:
            with engine.begin() as connection:
                migrate(connection, name=self.name)
        except SQLAlchemyError as error:
            engine.dispose()
            raise SettingsError(
                f"store {self.name} cannot be used: {sentence(error)}",
                advice="check that PostgreSQL runs there, that its certificate is one "
                "of store.trust_anchors for this name, that the database exists, and "
                "that this user may create tables in it",
            ) from error
        except SettingsError:
            engine.dispose()
            raise
        self._engine = engine

    def close(self) -> None:
        """Close every connection; blocks."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:  # noqa: ARG002 - PostgreSQL needs no word beforehand
        """Do `work` in one transaction; blocks.

        Raises:
            StoreError: it was undone whole.
        """
        return transact(self._engine, work)

    def forget(self) -> None:
        """Do nothing: old row versions and the log are the server's.

        VACUUM and the archive's retention bound how long they last; docs/operations.md
        says how to set them.
        """

    async def signals(self) -> AsyncIterator[Signal]:
        """Yield what bridges on this database tell one another, until cancelled."""
        address = make_conninfo(**{**self._place, **self._arguments})
        while True:
            # A server that is down is seen by every transaction; nothing to say here.
            with contextlib.suppress(psycopg.Error, OSError):
                async with await psycopg.AsyncConnection.connect(
                    address, autocommit=True
                ) as listening:
                    for topic in Topic:
                        await listening.execute(
                            sql.SQL("LISTEN {}").format(sql.Identifier(topic.value))
                        )
                    yield Signal(Topic.OUTBOX, "")
                    yield Signal(Topic.KEYS, "")
                    async for told in listening.notifies():
                        yield Signal(Topic(told.channel), told.payload)
            await asyncio.sleep(RECONNECT_S)


def _connect_arguments() -> dict[str, str | int]:
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
        f"-c lock_timeout={LOCK_TIMEOUT_MS}",
        f"-c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS}",
    )
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "freefloat-bridge",
        "options": " ".join(options),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": PEER_TIMEOUT_MS,
    }


def _connect(
    _dialect: Dialect, _record: object, arguments: list[str], named: dict[str, str]
) -> "AnsweringConnection[tuple[object, ...]]":
    return AnsweringConnection.connect(*arguments, **named)  # type: ignore[arg-type]  # SQLAlchemy hands over what psycopg takes


def _prepare(
    dbapi_connection: "psycopg.Connection[tuple[str]]", _record: object
) -> None:
    found = dbapi_connection.execute("SHOW synchronous_commit").fetchone()
    if found is not None and found[0] in _WEAK:
        dbapi_connection.execute("SET SESSION synchronous_commit = on")
    dbapi_connection.commit()
