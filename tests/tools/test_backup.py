"""`freefloat bridge backup` and `restore`, as an operator types them (row 37)."""

import json
from pathlib import Path

import pytest

from bridge.backup import mark
from bridge.sqlite_database import SqliteDatabase
from certs.fleet import FleetDirectory
from tests.bridge.conftest import make_fleet
from tests.bridge.world import NOW_MS
from tests.tools.command_line import freefloat, require_clear_failure


@pytest.fixture
def fleet(tmp_path: Path) -> FleetDirectory:
    (tmp_path / "bridge.toml").write_text(
        '[fleet]\ndirectory = "fleet"\n[store]\npath = "store"\n'
        "[api]\nwithout_key = true\n"
    )
    return make_fleet(tmp_path / "fleet", 1)


def test_keys_of_places_lie_apart_and_the_newest_replace_the_former(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K26
    store = SqliteDatabase(tmp_path / "store")
    mark(store, fleet_id=fleet.fleet.fleet_id, now=NOW_MS)
    config, keys = ("--config", "bridge.toml"), ("--keys", "keys")
    (tmp_path / "keys").write_text("what the backup before left")

    freefloat("bridge", "backup", *config, *keys, "copy", cwd=tmp_path)
    done = freefloat("bridge", "restore", *config, *keys, "copy", cwd=tmp_path)

    assert done.returncode == 0
    assert (tmp_path / "keys").read_bytes().startswith(b"SQLite format 3")


def test_a_store_is_copied_and_put_back_and_what_was_there_is_kept(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    store = SqliteDatabase(tmp_path / "store")
    mark(store, fleet_id=fleet.fleet.fleet_id, now=NOW_MS)
    config = ("--config", "bridge.toml")

    copied = freefloat("bridge", "backup", *config, "copy", "--json", cwd=tmp_path)
    again = freefloat("bridge", "backup", *config, "copy", cwd=tmp_path)
    done = freefloat("bridge", "restore", *config, "copy", "--json", cwd=tmp_path)
    unnamed = freefloat("bridge", "restore", *config, cwd=tmp_path)

    assert json.loads(copied.stdout)["bytes"] == (tmp_path / "copy").stat().st_size
    require_clear_failure(again, "copy exists already", "no backup is ever overwritten")
    assert json.loads(done.stdout) == {
        "cars_in_doubt": 0,
        "former_store": "store.before-1",
    }
    require_clear_failure(unnamed, "no backup is named")
