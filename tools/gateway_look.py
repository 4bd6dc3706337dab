"""``freefloat gateway inspect``: what a car keeps, for whoever stands beside it.

Reads only, also while the agent runs, and shows no key, PIN or card.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from gateway.bootstrap import signer_of
from gateway.core.ledger import SealedEntry
from gateway.settings import load_settings
from gateway.storage.identity import load_identity
from gateway.storage.inspection import damaged_ledgers, look_into
from gateway.storage.trust_rows import KeptTrust
from protocol.codes import ConfigKind, EventType, FrameClass
from protocol.frame import parse_frame
from protocol.identity import key_id
from protocol.trust import BUNDLE, SIGNED_BUNDLE, TrustBundle
from tools.console import (
    examples,
    facts,
    heading,
    json_option,
    print_error,
    print_json,
    step,
    table,
)
from tools.errors import EXIT_FAILED

DEFAULT_CONFIG: Final = Path("gateway.toml")
"""The settings file if nobody names one."""

config_option: Final = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    metavar="FILE",
    help="The car's settings (deploy/gateway.toml is an example).",
)

_LEDGER_ADVICE: Final = (
    "restart the agent: it moves a damaged ledger aside, keeps it, and begins a new one"
)


@click.group(
    epilog=examples(
        "freefloat gateway inspect ledger --config gateway.toml",
        "freefloat gateway inspect dead-letters         # what the fleet refused",
        "freefloat gateway inspect trust --json | jq .keys",
    )
)
def inspect() -> None:
    """Show what a car keeps: ledger, dead letters, configurations, trust.

    Reads a copy, so it may be used while the agent runs. Shows no key, PIN or card.
    """


@inspect.command(
    epilog=examples(
        "freefloat gateway inspect ledger",
        "freefloat gateway inspect ledger --last 5",
        "freefloat gateway inspect ledger --json | jq '.entries[].type'",
    )
)
@config_option
@click.option(
    "--last",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Show so many of the newest entries; all of them are checked.",
)
@json_option
def ledger(config: Path, last: int, as_json: bool) -> int:
    """Show entries that wait for a receipt, and check chain and signatures.

    If an entry was deleted, moved or changed, its number is named and the exit code is
    1.
    """
    settings = load_settings(config)
    identity = load_identity(settings.identity)
    with look_into(settings.ledger) as copy:
        kept = copy.ledger(signer_of(identity))
    shown = kept.entries[-last:] if last else ()
    if as_json:
        print_json(
            {
                "vehicle": str(identity.vehicle_id),
                "ledger_id": kept.head.ledger_id.hex(),
                "head": {"seq": kept.head.seq, "hash": kept.head.hash.hex()},
                "receipted": kept.receipted,
                "starts": kept.boot_counter,
                "waiting": len(kept.entries),
                "fault": kept.fault,
                "entries": [_entry_document(entry) for entry in shown],
            }
        )
    else:
        heading(f"Ledger {kept.head.ledger_id.hex()} of vehicle {identity.vehicle_id}")
        facts(
            {
                "newest entry": str(kept.head.seq),
                "its hash": kept.head.hash.hex(),
                "receipted": f"up to {kept.receipted}",
                "waiting": str(len(kept.entries)),
                "starts": str(kept.boot_counter),
            }
        )
        if shown:
            table(_ENTRY_HEADER, [_entry_row(entry) for entry in shown])
        if kept.fault is None:
            step("chain and signatures hold")
        else:
            print_error(kept.fault, _LEDGER_ADVICE)
    return 0 if kept.fault is None else EXIT_FAILED


@inspect.command(
    "dead-letters",
    epilog=examples(
        "freefloat gateway inspect dead-letters",
        "freefloat gateway inspect dead-letters --json | jq length",
    ),
)
@config_option
@json_option
def dead_letters(config: Path, as_json: bool) -> None:
    """Show entries that the fleet refused for good, and why.

    They are kept for as long as there is room: the car has signed them, and they may be
    the only copy.
    """
    with look_into(load_settings(config).ledger) as copy:
        found = copy.dead_letters()
    if as_json:
        print_json(
            [_entry_document(entry) | {"refused": code.name} for entry, code in found]
        )
    elif not found:
        step("the fleet has refused nothing")
    else:
        table(
            (*_ENTRY_HEADER, "refused"),
            [(*_entry_row(entry), code.name) for entry, code in found],
        )


@inspect.command(
    epilog=examples(
        "freefloat gateway inspect configurations",
        "freefloat gateway inspect configurations --json | jq '.[].version'",
    )
)
@config_option
@json_option
def configurations(config: Path, as_json: bool) -> None:
    """Show which configuration bodies are in force."""
    with look_into(load_settings(config).ledger) as copy:
        found = copy.configurations()
    if as_json:
        print_json(
            [
                {
                    "kind": _kind(active.kind),
                    "version": active.version,
                    "sha256": active.sha256.hex(),
                    "bytes": size,
                }
                for active, size in found
            ]
        )
    elif not found:
        step("no configuration has come yet")
    else:
        table(
            ("kind", "version", "bytes", "sha256"),
            [
                (_kind(each.kind), str(each.version), str(size), each.sha256.hex())
                for each, size in found
            ],
        )


@inspect.command(
    epilog=examples(
        "freefloat gateway inspect quarantine",
        "freefloat gateway inspect quarantine --json | jq -r '.[].path'",
    )
)
@config_option
@json_option
def quarantine(config: Path, as_json: bool) -> None:
    """Show damaged ledgers that were moved aside and kept."""
    found = damaged_ledgers(load_settings(config).ledger)
    if as_json:
        print_json([{"path": str(path), "bytes": size} for path, size in found])
    elif not found:
        step("no ledger was ever damaged here")
    else:
        table(("file", "bytes"), [(str(path), str(size)) for path, size in found])


@inspect.command(
    epilog=examples(
        "freefloat gateway inspect trust",
        "freefloat gateway inspect trust --json | jq '.keys[] | .role'",
    )
)
@config_option
@json_option
def trust(config: Path, as_json: bool) -> None:
    """Show whose commands count, until when, and what the car knows of the time."""
    settings = load_settings(config)
    identity = load_identity(settings.identity)
    with look_into(settings.ledger) as copy:
        kept = copy.trust()
    bundle = identity.trust.bundle if kept.bundle is None else _bundle(kept.bundle)
    signing = identity.signing_key.key_id if kept.key_id is None else kept.key_id
    if as_json:
        print_json(_trust_document(bundle, kept, signing))
        return
    heading(f"Trust bundle {bundle.version} of vehicle {identity.vehicle_id}")
    facts(
        {
            "issued": _instant(bundle.issued_ms),
            "ends": _instant(bundle.expires_ms),
            "suites": ", ".join(suite.name for suite in bundle.suites),
            "threshold": f"{bundle.threshold} of {len(bundle.roots)} roots",
            "revoked": ", ".join(each.hex() for each in bundle.revoked) or "none",
            "time is past": _instant(kept.time.floor_ms),
            "car's key": signing.hex(),
        }
    )
    table(
        ("key", "role", "from", "to", "opcodes", "longest life"),
        [
            (
                key.key_id.hex(),
                key.role.name,
                _instant(key.not_before_ms),
                _instant(key.not_after_ms),
                str(len(key.opcodes)),
                f"{key.max_ttl_ms / 1000:g} s",
            )
            for key in bundle.keys
        ],
    )


_ENTRY_HEADER: Final = ("entry", "class", "type", "labelled", "bytes", "hash")


def _entry_row(entry: SealedEntry) -> tuple[str, ...]:
    found = _entry_document(entry)
    return (
        str(found["seq"]),
        str(found["class"]),
        str(found["type"]),
        str(found["labelled"]),
        str(found["bytes"]),
        entry.hash.hex()[:16],
    )


def _entry_document(entry: SealedEntry) -> dict[str, object]:
    header = parse_frame(entry.frame).header
    return {
        "seq": entry.seq,
        "class": entry.frame_class.label,
        "type": _type(entry.frame_class, header.type),
        "labelled": _instant(header.wall_ms),
        "bytes": len(entry.frame),
        "hash": entry.hash.hex(),
    }


def _type(frame_class: FrameClass, number: int) -> str:
    if frame_class is FrameClass.EVENT and number in set(EventType):
        return EventType(number).name
    return frame_class.name if frame_class is FrameClass.RESULT else f"0x{number:04X}"


def _kind(number: int) -> str:
    return ConfigKind(number).name if number in set(ConfigKind) else str(number)


def _bundle(data: bytes) -> TrustBundle:
    """Read the bundle in use: it was verified when it was accepted."""
    return BUNDLE.parse(SIGNED_BUNDLE.parse(data).body)


def _trust_document(
    bundle: TrustBundle, kept: KeptTrust, signing: bytes
) -> dict[str, object]:
    return {
        "version": bundle.version,
        "issued": _instant(bundle.issued_ms),
        "ends": _instant(bundle.expires_ms),
        "expiry_told": kept.expiry_told,
        "suites": [suite.name for suite in bundle.suites],
        "threshold": bundle.threshold,
        "roots": [key_id(root).hex() for root in bundle.roots],
        "revoked": [each.hex() for each in bundle.revoked],
        "time_is_past": _instant(kept.time.floor_ms),
        "time_from": kept.time.quality.name,
        "car_key": signing.hex(),
        "keys": [
            {
                "key": key.key_id.hex(),
                "role": key.role.name,
                "from": _instant(key.not_before_ms),
                "to": _instant(key.not_after_ms),
                "opcodes": len(key.opcodes),
                "max_ttl_ms": key.max_ttl_ms,
            }
            for key in bundle.keys
        ],
    }


def _instant(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return f"{ms} ms"
