"""``freefloat bridge backup | restore``: a copy of the store, and going on from one."""

import time
from pathlib import Path

import click

from bridge.backup import back_up, mark, restore
from bridge.databases import choose_database
from bridge.fleet_files import read_fleet
from bridge.settings import load_settings
from tools.console import examples, facts, json_option, print_json, step
from tools.errors import OperatorError

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The bridge's settings.",
)


@click.command(
    epilog=examples(
        "freefloat bridge backup --config bridge.toml --keys /keys/places.sqlite "
        "/backup/bridge-2026-11-25.sqlite",
        "# PostgreSQL: pg_dump --format=custom --exclude-table-data=place_keys "
        "--file=freefloat.dump freefloat",
    )
)
@config_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the keys of places here, instead of those of the backup before.",
)
@json_option
def backup(config: Path, target: Path, keys: Path | None, as_json: bool) -> None:
    """Copy a SQLite store to TARGET while the bridge runs, and check the copy.

    The copy holds all that the store holds: who drove when, and where. The places are
    sealed, and their keys are in the file of --keys alone. Keep only its newest
    version: what is erased is then unreadable in every backup. Without --keys nobody
    can read a place in the copy.
    """
    settings = load_settings(config)
    if settings.store.url is not None:
        raise OperatorError(
            "the store is a PostgreSQL, which has its own tools",
            "pg_dump --format=custom --exclude-table-data=place_keys "
            "--file=freefloat.dump freefloat; see docs/operations.md, section 9",
        )
    size = back_up(Path(settings.store.path), target, keys=keys)
    if as_json:
        print_json({"file": str(target), "bytes": size})
        return
    step(f"{target}: {size} bytes, whole")


@click.command(
    "restore",
    epilog=examples(
        "freefloat bridge restore --config bridge.toml --keys /keys/places.sqlite "
        "/backup/bridge-2026-11-25.sqlite",
        "# PostgreSQL: first pg_restore --clean --if-exists --dbname=freefloat "
        "freefloat.dump",
        "# and pg_restore --data-only --dbname=freefloat place-keys.dump",
        "freefloat bridge restore --config bridge.toml",
    ),
)
@config_option
@click.argument(
    "source",
    required=False,
    metavar="[BACKUP]",
    type=click.Path(path_type=Path, dir_okay=False),
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The newest file of keys; a place without its key counts as erased.",
)
@json_option
def restore_command(
    config: Path, source: Path | None, keys: Path | None, as_json: bool
) -> None:
    """Go on from a backup: stop every bridge first.

    Of a SQLite store BACKUP takes its place, and what was there is moved aside. A
    PostgreSQL is restored by pg_restore before, and this command needs no BACKUP. Then
    no number is used again, and cars that were connected are asked where they stand.
    """
    settings = load_settings(config)
    fleet_id, now = read_fleet(settings).fleet_id, time.time_ns() // 1_000_000
    aside = ""
    if settings.store.url is None:
        if source is None:
            raise OperatorError(
                "no backup is named", "name the file that 'bridge backup' made"
            )
        path = Path(settings.store.path)
        doubted, aside = restore(path, source, fleet_id=fleet_id, now=now, keys=keys)
    else:
        if source is not None or keys is not None:
            raise OperatorError(
                "the store is a PostgreSQL, which pg_restore restores",
                "do that first, then call this command without a file",
            )
        doubted = mark(choose_database(settings), fleet_id=fleet_id, now=now)
    if as_json:
        print_json({"cars_in_doubt": doubted, "former_store": aside or None})
        return
    step("numbers of commands go on beyond all that were used")
    facts(
        {
            "cars in doubt": f"{doubted}; each is asked when the bridge runs",
            "former store": aside or "there was none",
        }
    )
