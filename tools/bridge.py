"""``freefloat bridge``: connect cars to fleet services.

Each command is imported when it is called: who asks a bridge loads no web server and no
database.
"""

from typing import Final

from tools.cli import LazyGroup, Subcommand
from tools.console import examples

SUBCOMMANDS: Final = {
    "approvals": Subcommand(
        "tools.approvals:approvals",
        "See and decide about orders that need a second person.",
        "bridge",
    ),
    "audit": Subcommand(
        "tools.audit:audit",
        "Verify the audit trail and show its end; the key must be an admin's.",
        "bridge",
    ),
    "backup": Subcommand(
        "tools.backup:backup",
        "Copy a SQLite store to TARGET while the bridge runs, and check the copy.",
        "bridge",
    ),
    "erase": Subcommand(
        "tools.upkeep:erase",
        "Erase where a rental began, parked and ended; nothing takes it back.",
        "bridge",
    ),
    "explain": Subcommand(
        "tools.explain:explain",
        "Explain a command: who asked, what was signed, sent, answered and confirmed.",
        "bridge",
    ),
    "gaps": Subcommand(
        "tools.gaps:gaps",
        "See missing ledger entries, and go on without those that are lost.",
        "bridge",
    ),
    "judge": Subcommand(
        "tools.upkeep:judge",
        "Judge a dead letter anew: the same rules, today's registry and program.",
        "bridge",
    ),
    "letters": Subcommand(
        "tools.upkeep:letters",
        "List what was received and not believed, the newest first.",
        "bridge",
    ),
    "replay": Subcommand(
        "tools.sinks:replay",
        "Let a consumer have events again; it drops by id what it has.",
        "bridge",
    ),
    "restore": Subcommand(
        "tools.backup:restore_command",
        "Go on from a backup: stop every bridge first.",
        "bridge",
    ),
    "run": Subcommand(
        "tools.bridge_run:run",
        "Run the bridge until Ctrl-C.",
        "bridge",
    ),
    "sinks": Subcommand(
        "tools.sinks:sinks",
        "Show how far every consumer is, and why one takes nothing.",
        "bridge",
    ),
    "trust": Subcommand(
        "tools.upkeep:trust",
        "Show the newest trust bundle and the cars that have not got it.",
        "bridge",
    ),
}
"""Everything that `freefloat bridge` can do."""

bridge: Final = LazyGroup(
    SUBCOMMANDS,
    name="bridge",
    help="Connect cars to fleet services.",
    epilog=examples(
        "freefloat bridge run --fleet fleet --broker 127.0.0.1:8883",
        "freefloat bridge run --config bridge.toml",
    ),
)
