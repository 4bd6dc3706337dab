"""`freefloat bridge audit`: who ordered or changed what, and if that holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from bridge.audit import AuditCheck, AuditEntry, AuditHead, AuditRow
from bridge.checkpoints import CheckpointError, read_checkpoints
from bridge.fleet_files import open_trust, read_fleet
from bridge.settings import FleetSettings, Settings
from protocol.codes import Role
from protocol.keys import VerifyKey
from tools.bridge_api import BridgeApi
from tools.console import examples, facts, print_json, table
from tools.errors import EXIT_FAILED, OperatorError
from tools.upkeep import of_bridge

PAGE: Final = 200

_WHEN_BROKEN: Final = (
    "keep the store as it is and look who could write to it; a backup of before shows "
    "what stood there (docs/operations.md, section 8)"
)


class NotedHead(click.ParamType[AuditHead]):
    """A head that was noted earlier."""

    name = "ID:HASH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> AuditHead:
        """Return it, or end with what is wrong."""
        row_id, _, row_hash = str(value).partition(":")
        try:
            return AuditHead(int(row_id), bytes.fromhex(row_hash))
        except ValueError:
            self.fail("is not ID:HASH as this command printed it", param, ctx)


@click.command(
    epilog=examples(
        "freefloat bridge audit --api-key-file auditor.key",
        "freefloat bridge audit --noted 4711:9f86d0…   # as printed last month",
    )
)
@click.option("--noted", type=NotedHead(), help="A head that was noted elsewhere.")
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A bridge's signed checkpoints, best a copy from elsewhere.",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The fleet directory, whose trust bundles say whose checkpoints count.",
)
@click.option("--lines", type=click.IntRange(0), default=20, help="Newest rows shown.")
@of_bridge
@click.pass_context
def audit(
    ctx: click.Context,
    api: str,
    api_key_file: Path | None,
    *,
    noted: AuditHead | None,
    checkpoints: Path | None,
    fleet: Path | None,
    lines: int,
    as_json: bool,
) -> None:
    """Verify the audit trail and show its end; the key must be an admin's.

    Note the printed head elsewhere: who can write to the whole store can make the trail
    anew, and is found by a head that they do not know of.
    """
    if (checkpoints is None) is not (fleet is None):
        raise click.UsageError("--checkpoints and --fleet go together")
    heads = [] if noted is None else [noted]
    if checkpoints is not None and fleet is not None:
        heads += _checked(checkpoints, fleet)
    check = AuditCheck(*heads)
    newest: list[dict[str, Any]] = []
    head = AuditHead()
    for page in _pages(BridgeApi.at(api, api_key_file)):
        for row in page["rows"]:
            check.take(_row(row))
        newest = [*newest, *page["rows"]][-lines:] if lines else []
        head = AuditHead(page["head"]["id"], bytes.fromhex(page["head"]["row_hash"]))
    check.end(head)
    noted_as = f"{head.row_id}:{head.row_hash.hex()}"
    if as_json:
        print_json({"rows": newest, "head": noted_as, "faults": check.faults})
    else:
        table(
            ("row", "when", "who", "role", "what", "outcome"),
            (
                (
                    *(str(row["id"]), row["at"], row["who"], row["role"]),
                    *(row["what"], _outcome(row)),
                )
                for row in newest
            ),
        )
        facts({"head, to be noted elsewhere": noted_as})
        for fault in check.faults:
            click.echo(f"broken: {fault}", err=True)
        if check.faults:
            click.echo(f"  {_WHEN_BROKEN}", err=True)
    if check.faults:
        ctx.exit(EXIT_FAILED)


def _checked(checkpoints: Path, fleet: Path) -> list[AuditHead]:
    settings = Settings(fleet=FleetSettings(directory=str(fleet)))
    identity = read_fleet(settings)
    trust = open_trust(settings, identity).current
    raw_keys = {
        found.public_key
        for bundle in trust.bundles.values()
        for found in bundle.keys
        if found.role is Role.RECEIPT
    }
    keys = [VerifyKey.load(raw) for raw in sorted(raw_keys)]
    heads = read_checkpoints(
        checkpoints,
        fleet_id=identity.fleet_id,
        keys=keys,
    )
    try:
        return list(heads)
    except CheckpointError as error:
        raise OperatorError(
            f"{checkpoints}: {error}", "somebody was at it: take an older copy"
        ) from error


def _pages(bridge: BridgeApi) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page: dict[str, Any] = bridge.get(f"/v1/audit?limit={PAGE}&after={after}")
        yield page
        after = page["next"]


def _row(row: dict[str, Any]) -> AuditRow:
    return AuditRow(
        row["id"],
        AuditEntry(
            row["at_ms"],
            row["who"],
            row["role"],
            row["what"],
            row["outcome"],
            row["asked"],
        ),
        bytes.fromhex(row["prev_hash"]),
        bytes.fromhex(row["row_hash"]),
    )


def _outcome(row: dict[str, Any]) -> str:
    return f"row {row['asked']}: {row['outcome']}" if row["asked"] else row["outcome"]
