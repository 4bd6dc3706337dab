"""``freefloat evidence``: fetch the proof of a rental, and check one that is shown.

Checking needs no network, no bridge and no fleet directory, only the file and the
fleet's anchors; it asks no clock, so a proof is as good in ten years as today.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from bridge.missing_entries import MISSING_HEADER
from certs.fleet import FleetDirectory
from protocol.anchors import (
    ANCHORS_LIMIT,
    EvidenceAnchors,
    build_anchors,
    parse_anchors,
)
from protocol.errors import ProtocolError
from protocol.evidence import (
    EVIDENCE_LIMIT,
    Proof,
    ProvedEntry,
    verify_evidence,
)
from protocol.rendering import fields_of, render_frame, type_name
from tools.api_options import api_options
from tools.bridge_api import BridgeApi
from tools.console import examples, facts, heading, json_option, print_json, step, table
from tools.errors import OperatorError

RENTAL_DIGITS: Final = 32
"""Hexadecimal digits of a rental id."""


@click.group(
    epilog=examples(
        "freefloat evidence export 000102030405060708090a0b0c0d0e0f -o case.json",
        "freefloat evidence anchors fleet -o anchors.json",
        "freefloat evidence verify case.json --anchors anchors.json",
    )
)
def evidence() -> None:
    """Prove a rental to a stranger, and check such a proof."""


@evidence.command(
    epilog=examples(
        "freefloat evidence export 000102030405060708090a0b0c0d0e0f -o case.json",
        "freefloat evidence export 000102030405060708090a0b0c0d0e0f | less",
    )
)
@click.argument("rental_id")
@api_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write it; stdout without.",
)
def export(
    rental_id: str, api: str, api_key_file: Path | None, output: Path | None
) -> None:
    """Fetch the proof of a rental from a running bridge.

    It holds the rental's signed ledger entries, the fleet's receipt, the certificates
    and trust bundles, and the places that are not erased. Nobody can change it without
    being found out; but it tells where somebody was, so give it only to who may know.
    """
    if len(rental_id) != RENTAL_DIGITS or not all(
        digit in "0123456789abcdef" for digit in rental_id
    ):
        raise OperatorError(
            f"{rental_id[:80]!r} is no rental id",
            f"a rental id has {RENTAL_DIGITS} lower-case hexadecimal digits",
        )
    data, missing = BridgeApi.at(api, api_key_file).get_bytes(
        f"/v1/rentals/{rental_id}/evidence", MISSING_HEADER
    )
    if missing:
        click.echo(
            f"entries {missing} are lost and were given up: the proof begins behind",
            err=True,
        )
    if output is None:
        sys.stdout.buffer.write(data)
        return
    output.write_bytes(data)
    step(f"wrote {output}, {len(data):,} bytes")


@evidence.command(epilog=examples("freefloat evidence anchors fleet -o anchors.json"))
@click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), metavar="FLEET"
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write it; stdout without.",
)
def anchors(directory: Path, output: Path | None) -> None:
    """Write the public file by which strangers check this fleet's proofs.

    Publish it where they can trust it, once, before there is a dispute.
    """
    data = build_anchors(anchors_of(directory))
    if output is None:
        sys.stdout.buffer.write(data)
        return
    output.write_bytes(data)
    step(f"wrote {output}")


@evidence.command(
    epilog=examples(
        "freefloat evidence verify case.json --anchors anchors.json",
        "freefloat evidence verify case.json --fleet fleet --json",
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--anchors",
    "anchors_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The fleet's anchors, taken from the fleet and not from who shows the proof.",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A fleet directory in place of its anchors.",
)
@json_option
def verify(
    file: Path, anchors_file: Path | None, fleet: Path | None, *, as_json: bool
) -> None:
    """Check a proof, offline; exit code 1 if it proves nothing.

    Dates are judged at the time of the fleet's receipt, so it does not matter which
    certificates have expired since.
    """
    if (anchors_file is None) is (fleet is None):
        raise OperatorError(
            "a proof is checked by the fleet's anchors",
            "give --anchors FILE, or --fleet DIR",
        )
    known = (
        anchors_of(fleet) if fleet is not None else read_anchors(anchors_file or Path())
    )
    try:
        proof = verify_evidence(_read(file, EVIDENCE_LIMIT), known)
    except ProtocolError as error:
        raise OperatorError(
            f"{file} proves nothing: {error}",
            "get it anew from the fleet, or take it as a forgery",
        ) from error
    if as_json:
        print_json(_document(proof))
    else:
        _show(proof)


def anchors_of(directory: Path) -> EvidenceAnchors:
    """Return the anchors of a fleet directory."""
    fleet = FleetDirectory.open(directory)
    return EvidenceAnchors(
        fleet.fleet.fleet_id,
        tuple(fleet.evidence_roots),
        fleet.open_trust_bundle().trust_roots,
    )


def read_anchors(path: Path) -> EvidenceAnchors:
    """Return the anchors of a file.

    Raises:
        OperatorError: it is none.
    """
    try:
        return parse_anchors(_read(path, ANCHORS_LIMIT))
    except ProtocolError as error:
        raise OperatorError(
            f"{path}: {error}", "make it with 'freefloat evidence anchors'"
        ) from error


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)


def _show(proof: Proof) -> None:
    first, last = proof.entries[0], proof.entries[-1]
    step(f"proved: {len(proof.entries)} entries of one ledger, without a gap")
    facts(
        {
            "vehicle": str(proof.vehicle_id),
            "ledger": proof.ledger_id.hex(),
            "entries": f"{first.frame.header.seq} to {last.frame.header.seq}",
            "confirmed": f"{_utc(proof.confirmed_ms)} by the fleet's receipt",
            "commands": f"{len(proof.commands)} of the fleet's, with signatures",
            "places": f"{len(proof.places)} that fit their entries",
        }
    )
    heading("What the vehicle signed")
    table(
        ("seq", "vehicle's clock", "entry"),
        (
            (
                str(entry.frame.header.seq),
                _utc(entry.frame.header.wall_ms),
                type_name(entry.frame.header)
                if entry.body is None
                else render_frame(entry.frame).partition("  ")[2],
            )
            for entry in proof.entries
        ),
    )


def _document(proof: Proof) -> dict[str, object]:
    return {
        "proved": True,
        "vehicle_id": str(proof.vehicle_id),
        "ledger_id": proof.ledger_id.hex(),
        "confirmed": _utc(proof.confirmed_ms),
        "entries": [_entry(entry) for entry in proof.entries],
        "commands": [frame.header.msg_id.hex() for frame in proof.commands],
        "places": [fields_of(place) for place in proof.places],
    }


def _entry(entry: ProvedEntry) -> dict[str, object]:
    header = entry.frame.header
    return {
        "seq": header.seq,
        "type": type_name(header),
        "time": _utc(header.wall_ms),
        "clock": entry.link.clock_quality.name,
        "says": None if entry.body is None else fields_of(entry.body),
    }


def _utc(wall_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{wall_ms} ms"
