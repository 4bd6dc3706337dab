"""Write docs/protocol/examples.md: ``python -m tools.worked_examples``.

Every step that a second implementation takes, in hexadecimal: fields, signed bytes,
hashes, signature. What is printed comes from tests/vectors/v1 and from the layouts, so
it is what the code does; a test makes the document again and compares.
"""

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import click
import construct as cs

from protocol.codes import EventType, FrameClass, FrameType, Opcode, Suite, SyncType
from protocol.command import COMMANDS
from protocol.content import PAYLOADS
from protocol.entry import LINK, LINK_SIZE, entry_hash, event_id
from protocol.event import EVENTS
from protocol.frame import HEADER
from protocol.identity import VehicleId, card_digest
from protocol.keys import SIGNATURE_SIZE
from protocol.layout import Layout
from protocol.place import EVENT_PLACE, commitment_of
from protocol.rotation import rotation_message
from protocol.signing import request_hash
from protocol.sync import SYNCS
from protocol.trust import BUNDLE, TRUST_CONTEXT
from tools.published_keys import CAR_A_KEY, CARD, RENTAL
from tools.vectors import DIRECTORY

PATH: Final = Path(__file__).parent.parent / "docs" / "protocol" / "examples.md"
"""The document."""

_CARD_UID: Final = bytes.fromhex("04a1b2c3d4e5f6")
_HEADER_SIZE: Final = 92
_LINE: Final = 64
"""Hexadecimal digits on a line."""

_FRAMES: Final = (
    ("cmd_unlock", "A command", "The fleet opens car A."),
    ("result_ok", "Its result", "The car answers; an entry of its ledger."),
    ("event_rental_started", "An event", "An entry of car A's ledger."),
    ("receipt_plain", "A receipt", "The fleet confirms what it committed."),
    ("place_parked", "A place", "Where the car was parked; goes before its entry."),
    ("event_key_rotated", "A rotation", "The last entry under the old key."),
    ("hello_first", "A hello", "What a car says first."),
    ("sync_challenge", "A challenge", "The fleet asks for a hello with this nonce."),
    ("death_lost", "A death", "The will that a car leaves with the broker."),
    ("p256_cmd_unlock", "A command of suite 2", "ECDSA on P-256 with SHA-256."),
    ("trust_by_roots", "A trust frame", "A newer bundle on its way to a car."),
)
"""Vector, heading and one sentence of each frame that is shown."""


def generate() -> str:
    """Return the text of docs/protocol/examples.md."""
    lines = [
        "# Worked examples of protocol version 1",
        "",
        "Made by `python -m tools.worked_examples` from `tests/vectors/v1`. Do not",
        "edit; a test compares. Keys and ids: [protocol.md](../protocol.md), 1.1.",
        "A field in parentheses is a run of reserved zero bytes.",
        "",
        *_key_section(),
    ]
    for name, heading, sentence in _FRAMES:
        lines += _frame_section(_vector(name), name, heading, sentence)
    lines += _bundle_section()
    lines += _sealed_section()
    return "\n".join(lines)


def _vector(name: str) -> dict[str, Any]:
    path = DIRECTORY / f"{name}.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _key_section() -> Iterator[str]:
    raw = CAR_A_KEY.key.verify_key.raw
    yield from _heading("Ids", "Key id of car A, and card digest of one rental.")
    yield from _block(
        [
            ("public key", raw),
            ("SHA-256 input", b"ff-key-v1" + raw),
            ("SHA-256", sha256(b"ff-key-v1" + raw).digest()),
            ("key id", CAR_A_KEY.key.key_id),
        ]
    )
    message = b"ff-card-v1\0" + RENTAL + bytes([len(_CARD_UID)]) + _CARD_UID
    if card_digest(RENTAL, _CARD_UID) != CARD:
        raise AssertionError("the published card has another UID")
    yield from _block(
        [
            ("UID", _CARD_UID),
            ("SHA-256 input", message),
            ("card digest", CARD),
        ]
    )


def _frame_section(
    vector: dict[str, Any], name: str, heading: str, sentence: str
) -> Iterator[str]:
    frame = bytes.fromhex(vector["frame"])
    tbs = bytes.fromhex(vector["tbs_hex"])
    unsigned = frame[:-SIGNATURE_SIZE]
    header, payload = unsigned[:_HEADER_SIZE], unsigned[_HEADER_SIZE:]
    prefix = tbs[: len(tbs) - len(unsigned) - 16]
    yield from _heading(
        heading, f"{sentence} Vector `{name}`, {len(frame)} bytes, signed by the "
        f"key of {vector['key']['name']}.",
    )  # fmt: skip
    yield from _step("Header:", _fields(HEADER, header))
    yield from _step("Payload:", _payload(vector, payload))
    signed = [
        ("prefix", prefix),
        ("fleet id", bytes.fromhex(vector["fleet_id"])),
        ("TBS", tbs),
    ]
    if vector["fields"]["header"]["suite"] == Suite.P256.name:
        signed.append(("SHA-256 of TBS", sha256(tbs).digest()))
    signed.append(("signature", bytes.fromhex(vector["signature"])))
    yield from _step("Signed bytes and signature:", signed)
    yield from _step("Frame and its hashes:", _hashes(vector, frame))


def _hashes(vector: dict[str, Any], frame: bytes) -> list[tuple[str, bytes]]:
    header = vector["fields"]["header"]
    rows = [("frame", frame)]
    if header["frame_class"] == FrameClass.CMD.name:
        rows.append(("request hash", request_hash(frame)))
    elif vector["fields"]["link"] is not None:
        rows.append(("entry hash", entry_hash(frame)))
        ledger_id = bytes.fromhex(vector["fields"]["link"]["ledger_id"])
        place = ledger_id + int(header["seq"]).to_bytes(8, "big")
        vehicle = bytes.fromhex(header["vehicle_id"])
        rows.append(("event id input", b"ff-event-id-v1\0" + vehicle + place))
        rows.append(("event id", event_id(vehicle, ledger_id, header["seq"])))
    if header["type"] == FrameType.PLACE:
        vehicle_id = VehicleId(bytes.fromhex(header["vehicle_id"]))
        payload = frame[_HEADER_SIZE:-SIGNATURE_SIZE]
        message = b"ff-place-v1\0" + vehicle_id.raw + payload
        rows.append(("commitment input", message))
        told = EVENT_PLACE.parse(payload)
        rows.append(("place commitment", commitment_of(vehicle_id, told)))
    if header["type"] == EventType.KEY_ROTATED:
        message = rotation_message(
            fleet_id=bytes.fromhex(vector["fleet_id"]),
            vehicle_id=VehicleId(bytes.fromhex(header["vehicle_id"])),
            old_key_id=bytes.fromhex(header["key_id"]),
            ledger_id=bytes.fromhex(vector["fields"]["link"]["ledger_id"]),
            seq=header["seq"],
        )
        rows.append(("signed by the new key", message))
    return rows


def _payload(vector: dict[str, Any], payload: bytes) -> list[tuple[str, bytes]]:
    header = vector["fields"]["header"]
    frame_class = FrameClass[header["frame_class"]]
    body: Layout[Any]
    match frame_class:
        case FrameClass.CMD:
            body = COMMANDS[Opcode(header["type"])].layout
        case FrameClass.SYNC:
            body = SYNCS[SyncType(header["type"])]
        case FrameClass.EVENT:
            body = EVENTS[EventType(header["type"])]
        case _:
            body = PAYLOADS[frame_class, header["type"]]
    if vector["fields"]["link"] is None:
        return _fields(body, payload)
    size = LINK_SIZE
    return _fields(LINK, payload[:size]) + _fields(body, payload[size:])


def _fields(layout: Layout[Any], data: bytes) -> list[tuple[str, bytes]]:
    """Return each field of a layout with its bytes."""
    subcons = layout._struct.subcons  # noqa: SLF001 - shown as it is declared
    marked = [
        part
        for number, subcon in enumerate(subcons)
        for part in (f"_{number}" / cs.Tell, subcon)
    ]
    parsed = cs.Struct(*marked, "_end" / cs.Tell).parse(data)
    marks = [parsed[f"_{number}"] for number in range(len(subcons))]
    if parsed["_end"] != len(data):
        raise AssertionError(f"{len(data) - parsed['_end']} bytes behind the fields")
    ends = (*marks[1:], parsed["_end"])
    return [
        (subcon.name or "(zero)", data[begin:end])
        for subcon, begin, end in zip(subcons, marks, ends, strict=True)
        if end > begin
    ]


def _bundle_section() -> Iterator[str]:
    vector = _vector("trust_bundle")
    body = bytes.fromhex(vector["body"])
    yield from _heading(
        "A trust bundle",
        "Two of three roots sign the body behind its context. Vector `trust_bundle`.",
    )
    yield from _step("Body:", _fields(BUNDLE, body))
    rows = [("context", TRUST_CONTEXT), ("TBS", bytes.fromhex(vector["tbs_hex"]))]
    for entry in vector["signatures"]:
        rows.append(("root key id", bytes.fromhex(entry["root_key_id"])))
        rows.append(("signature", bytes.fromhex(entry["signature"])))
    rows.append(("signed bundle", bytes.fromhex(vector["bundle"])))
    yield from _step("Signed bytes, signatures, and what travels:", rows)


def _sealed_section() -> Iterator[str]:
    vector = _vector("sealed_secrets")
    ids = [bytes.fromhex(vector[name]) for name in ("fleet_id", "vehicle_id")]
    rental = bytes.fromhex(vector["rental_id"])
    sealed = bytes.fromhex(vector["sealed"])
    fields = vector["fields"]
    yield from _heading(
        "A sealed secret",
        f"PIN {fields['pin']}, fuel card PIN {fields['fuel_card_pin']}, "
        f"Argon2id with {fields['memory_kib']} KiB and {fields['passes']} passes. "
        "HPKE is randomised: it was sealed once. Vector `sealed_secrets`.",
    )
    yield from _block(
        [
            ("private key", bytes.fromhex(vector["private_key"])),
            ("info", b"ff-seal-v1\0" + b"".join(ids) + rental),
            ("encapsulated key", sealed[:32]),
            ("ciphertext and tag", sealed[32:]),
            ("salt", bytes.fromhex(fields["salt"])),
            ("verifier", bytes.fromhex(fields["verifier"])),
        ]
    )


def _heading(heading: str, sentence: str) -> Iterator[str]:
    yield from (f"## {heading}", "", sentence, "")


def _step(sentence: str, rows: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    yield from (sentence, "", *_block(rows))


def _block(rows: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    yield "```"
    for name, data in rows:
        digits = data.hex()
        for at in range(0, max(len(digits), 1), _LINE):
            yield f"{name if at == 0 else '':<22} {digits[at : at + _LINE]}".rstrip()
    yield from ("```", "")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if the file differs.")
def main(check: bool) -> None:
    """Write docs/protocol/examples.md from the vectors."""
    text = generate()
    if not check:
        PATH.write_text(text, encoding="utf-8")
        click.echo(f"wrote docs/protocol/{PATH.name}")
    elif not PATH.exists() or PATH.read_text(encoding="utf-8") != text:
        raise click.ClickException("examples.md is not up to date: run make docs")


if __name__ == "__main__":
    main()
