"""From the settings to the database that they name."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.database import Database
from bridge.errors import SettingsError
from bridge.fleet_files import read_secret
from bridge.postgres_tls import PostgresTls
from bridge.settings import Settings
from bridge.sqlite_database import SqliteDatabase

if TYPE_CHECKING:
    from bridge.postgres_database import PostgresDatabase

PASSWORD_LIMIT: Final = 1_024
"""Bytes of a password file."""


def choose_database(settings: Settings) -> Database:
    """Return the database of `settings.store`, not opened yet.

    Raises:
        SettingsError: its address, password file or trust anchors cannot be used, or
            PostgreSQL's driver is not installed.
    """
    store = settings.store
    if store.url is None:
        return SqliteDatabase(Path(store.path))
    password = None
    if store.password_file is not None:
        data = read_secret(Path(store.password_file), PASSWORD_LIMIT)
        password = data.decode("utf-8", "replace").strip()
    tls = PostgresTls(
        store.trust_anchors, store.certificate, store.key, store.without_tls
    )
    return _postgres()(store.url, password, tls)


def _postgres() -> "type[PostgresDatabase]":
    try:
        # An optional extra: an embedded bridge runs without PostgreSQL's driver.
        module = importlib.import_module("bridge.postgres_database")
    except ImportError as error:
        raise SettingsError(
            f"store.url needs PostgreSQL's driver: {error}",
            advice="install freefloat with the extra `postgres`",
        ) from error
    found: type[PostgresDatabase] = module.PostgresDatabase
    return found
