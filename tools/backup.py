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
        "freefloat bridge backup --config bridge.toml /backup/bridge-2026-11-25.sqlite",
        "# PostgreSQL: pg_dump --format=custom --file=freefloat.dump freefloat",
    )
)
@config_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def backup(config: Path, target: Path, as_json: bool) -> None:
    """Copy a SQLite store to TARGET while the bridge runs, and check the copy.

    The copy holds all that the store holds: who drove when, and where.
    """
    settings = load_settings(config)
    if settings.store.url is not None:
        raise OperatorError(
            "the store is a PostgreSQL, which has its own tools",
            "pg_dump --format=custom --file=freefloat.dump freefloat; see "
            "docs/operations.md, section 9",
        )
    size = back_up(Path(settings.store.path), target)
    if as_json:
        print_json({"file": str(target), "bytes": size})
        return
    step(f"{target}: {size} bytes, whole")


@click.command(
    "restore",
    epilog=examples(
        "freefloat bridge restore --config bridge.toml bridge-2026-11-25.sqlite",
        "# PostgreSQL: first pg_restore --clean --if-exists --dbname=freefloat "
        "freefloat.dump",
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
@json_option
def restore_command(config: Path, source: Path | None, as_json: bool) -> None:
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
        doubted, aside = restore(path, source, fleet_id=fleet_id, now=now)
    else:
        if source is not None:
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
