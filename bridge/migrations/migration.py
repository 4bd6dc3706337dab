"""Bringing a database's tables up to date, inside the caller's transaction.

Both engines change tables transactionally, so a step that fails leaves what was there.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from bridge.errors import SettingsError

_LOCK: Final = int.from_bytes(b"ffmigrat", signed=True)
"""One bridge at a time changes the tables of a shared database."""

FIRST_RELEASE: Final = "0001"
"""What a store without a revision is, if its own note says schema 3."""

_NOTED_SCHEMA: Final = "3"
"""The first release noted its schema in the table meta."""


def migrate(connection: Connection, *, name: str) -> None:
    """Bring the tables up to date; on a new database, make them.

    Args:
        connection: inside a transaction that may write.
        name: what messages call the database.

    Raises:
        SettingsError: it was made by a newer freefloat, or by none.
        SQLAlchemyError: the database refused; the transaction must be undone.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
    config = _config(connection)
    present = revision_of(connection)
    script = ScriptDirectory.from_config(config)
    if present is None and inspect(connection).has_table("meta"):
        _require_first_release(connection, name)
        command.stamp(config, FIRST_RELEASE)
    elif present is not None:
        _require_known(script, present, name)
    if present != script.get_current_head():
        command.upgrade(config, "head")


def revision_of(connection: Connection) -> str | None:
    """Return the revision that a database's tables have, or None if it says none."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Return the revision that this release works with."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    return str(head)


def _config(connection: Connection | None) -> Config:
    config = Config()
    here = Path(__file__).parent
    config.set_main_option("script_location", str(here / "environment"))
    config.set_main_option("version_locations", str(here / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _require_first_release(connection: Connection, name: str) -> None:
    query = text("SELECT value FROM meta WHERE name = 'schema'")
    noted = connection.execute(query).scalar_one_or_none()
    if noted != _NOTED_SCHEMA:
        raise SettingsError(
            f"store {name} has schema {noted or 'of something else'}, from before the "
            f"first release",
            advice="name another file or database; nothing was changed in this one",
        )


def _require_known(script: ScriptDirectory, present: str, name: str) -> None:
    try:
        script.get_revision(present)
    except CommandError as error:
        raise SettingsError(
            f"store {name} has revision {present}, which this freefloat does not know",
            advice="a newer freefloat changed it: run that one, or restore the backup "
            "that was made before",
        ) from error
