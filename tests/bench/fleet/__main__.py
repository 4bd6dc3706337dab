"""`make bench-fleet`: a whole fleet on this machine, as a table and as JSON."""

import argparse
import asyncio
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

from tests.bench.figure import print_table
from tests.bench.fleet.campaign import (
    ENTRY_EACH,
    Plan,
    document_of,
    figures_of,
    run_campaign,
)
from tests.postgres import missing_postgres, running_server


def main() -> None:
    """Run one campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cars", type=int, default=14_000)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--entry-each", type=int, default=ENTRY_EACH)
    parser.add_argument("--fleet", type=Path, help="a fleet to use again, or to make")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="profile the bridge's event loop")
    parser.add_argument(
        "--postgres",
        action="store_true",
        help="store in a PostgreSQL that is made for this run, and not in SQLite",
    )
    options = parser.parse_args()
    if options.postgres and (missing := missing_postgres()):
        raise SystemExit(missing)
    plan = Plan(options.cars, options.rate, options.seconds, options.entry_each)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_server() if options.postgres else nullcontext() as server,
    ):
        outcome = asyncio.run(
            run_campaign(
                plan,
                Path(directory) / "run",
                fleet_path=options.fleet,
                profile=options.profile,
                postgres=server,
            )
        )
    print_table(figures_of(outcome))
    print(
        f"  load average {outcome.load_average:.1f}, connected in "
        f"{outcome.connect_s:.1f} s, bridge {outcome.bridge_mb:.0f} MB, generator at "
        f"most {outcome.late_ms:.0f} ms late, {outcome.rejected} rejected"
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document_of(outcome), indent=2) + "\n")


if __name__ == "__main__":
    main()
