"""``freefloat certs audit``: what expires, what is shared, what is weak."""

from pathlib import Path

import click

from certs.finding import Finding, Weight
from certs.fleet import FleetDirectory
from certs.fleet_audit import audit_fleet
from tools.certs_vehicles import fleet_argument
from tools.clock import read_clock
from tools.console import examples, heading, json_option, print_json, step, table
from tools.errors import OperatorError


@click.command(
    epilog=examples(
        "freefloat certs audit fleet",
        "freefloat certs audit fleet --json | jq -r '.findings[] | .advice'",
        "0 6 * * *  freefloat certs audit /srv/fleet || notify    # every morning",
    )
)
@fleet_argument
@json_option
def audit(directory: Path, as_json: bool) -> None:
    """Look for what expires, what is shared, what is weak, what is still active.

    Reads only. Ends with exit code 1 if something must be done; notes alone end with 0.
    Each finding says what to do next.
    """
    fleet = FleetDirectory.open(directory)
    findings = audit_fleet(fleet, now=read_clock())
    must = [one for one in findings if one.weight is Weight.ACT]
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "must_act": len(must),
                "findings": [_document(one) for one in findings],
            }
        )
    elif not findings:
        step("nothing expires, nothing is shared, nothing is weak")
    else:
        heading(f"Audit of {directory}")
        table(
            ("weight", "check", "days", "subject", "finding"),
            [
                (
                    one.weight.value,
                    one.check,
                    "" if one.days is None else str(one.days),
                    one.subject,
                    one.detail,
                )
                for one in findings
            ],
        )
        click.echo()
        heading("What to do")
        for one in dict.fromkeys((one.check, one.advice) for one in must):
            click.echo(f"  {one[0]}: {one[1]}")
        if not must:
            click.echo("  nothing now")
    if must:
        raise OperatorError(
            f"{len(must)} findings in {directory} must be acted on",
            "each is named above, with what to do",
        )


def _document(finding: Finding) -> dict[str, object]:
    return {
        "weight": finding.weight.value,
        "check": finding.check,
        "subject": finding.subject,
        "detail": finding.detail,
        "advice": finding.advice,
        "days": finding.days,
    }
