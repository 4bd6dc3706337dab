"""The specification says what the code does: layouts, sizes, codes, keys."""

import re
from enum import IntEnum
from typing import Any, Final

import construct as cs
import pytest

from protocol import codes, rental_codes
from protocol.codes import (
    Bits,
    Code,
    CodeSpace,
    EventType,
    FrameClass,
    HelloFlags,
    Opcode,
    SyncType,
)
from protocol.command import COMMANDS
from protocol.death import DEATH
from protocol.entry import LINK
from protocol.event import EVENTS
from protocol.frame import CLASS_LIMITS, FRAME_LIMIT, HEADER, OVERHEAD
from protocol.hello import CAPABILITY, CONFIG_VERSION, HELLO, LANE_PROGRESS, OUTCOME
from protocol.layout import Layout
from protocol.place import EVENT_PLACE, PLACE
from protocol.receipt import GAP, RECEIPT, REJECT
from protocol.rental_codes import Rights
from protocol.result import RESULT, retry_of
from protocol.sealing import SECRETS
from protocol.snapshot import SNAPSHOT
from protocol.sync import SYNCS
from protocol.telemetry import SAMPLE
from protocol.trust import BUNDLE, KEY, ROOT_SIGNATURE, SIGNED_BUNDLE
from tests.protocol.vector_file import ACCEPTED, VECTORS
from tools.clauses import documents
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    CAR_A_NEXT_KEY,
    CAR_B,
    CAR_B_KEY,
    CAR_C,
    CAR_C_KEY,
    COMMAND_KEY,
    FLEET_ID,
    NEW_ROOT_KEY,
    RECEIPT_KEY,
    REVOKE_KEY,
    ROOT_KEYS,
    SERVICE_KEY,
    SESSION,
)

TEXT: Final = "".join(path.read_text("utf-8") for path in documents())
LINES: Final = TEXT.splitlines()

TABLES: Final[dict[str, Layout[Any]]] = {
    "header": HEADER,
    "link": LINK,
    "snapshot": SNAPSHOT,
    "result": RESULT,
    "hello": HELLO,
    "receipt": RECEIPT,
    "sample": SAMPLE,
    "event place": EVENT_PLACE,
    "place": PLACE,
    "secrets": SECRETS,
    "bundle": BUNDLE,
    "key": KEY,
    "report": EVENTS[EventType.RENTAL_ENDED],
}
INLINE: Final[dict[str, Layout[Any]]] = {
    "capability": CAPABILITY,
    "lane": LANE_PROGRESS,
    "outcome": OUTCOME,
    "configuration": CONFIG_VERSION,
    "death": DEATH,
    "gap": GAP,
    "reject": REJECT,
    "signed bundle": SIGNED_BUNDLE,
    "root signature": ROOT_SIGNATURE,
}
_WITH_TABLES: Final = frozenset(
    {"Code", "Opcode", "EventType", "SyncType", "FrameType", "FrameClass"}
)
SPACES: Final = [
    space
    for space in (*vars(codes).values(), *vars(rental_codes).values())
    if isinstance(space, type)
    and issubclass(space, CodeSpace)
    and space is not CodeSpace
    and space.__name__ not in _WITH_TABLES
]


def _rows(layout: Layout[Any]) -> list[tuple[str, str, str]]:
    """Return offset, size and name of every field, as the specification writes them."""
    rows = []
    offset: int | None = 0
    for subcon in layout._struct.subcons:
        try:
            size = subcon.sizeof()
        except cs.SizeofError:
            size = None
        if size != 0:  # a check takes no bytes
            rows.append(
                (
                    ".." if offset is None else str(offset),
                    "var" if size is None else str(size),
                    subcon.name or "zero",
                )
            )
        offset = None if offset is None or size is None else offset + size
    return rows


def _inline(layout: Layout[Any]) -> str:
    return ", ".join(f"{offset} {name} {size}" for offset, size, name in _rows(layout))


def _tables() -> list[list[tuple[str, str, str]]]:
    """Return every table that begins with an offset of 0."""
    tables: list[list[tuple[str, str, str]]] = []
    for line in LINES:
        found = re.match(r"\| (\d+|\.\.) \| (\d+|var) \| (reserved, zero|\w+) \|", line)
        if not found:
            continue
        if found[1] == "0":
            tables.append([])
        name = "zero" if found[3] == "reserved, zero" else found[3]
        tables[-1].append((found[1], found[2], name))
    return tables


@pytest.mark.parametrize("name", TABLES)
def test_a_layout_s_table_has_its_offsets_sizes_and_fields(name: str) -> None:
    # FF-FRM-01.
    rows = _rows(TABLES[name])
    if name == "header":
        # The code reads the class and the whole frame; the document names both.
        rows = [(o, s, "class" if f == "frame_class" else f) for o, s, f in rows]
        rows.append(("92", "n", "payload"))
        tables = [[*table, ("92", "n", "payload")] for table in _tables()]
    else:
        tables = _tables()

    assert rows in tables


@pytest.mark.parametrize("name", INLINE)
def test_a_small_layout_stands_in_one_line(name: str) -> None:
    assert f"`{_inline(INLINE[name])}`" in TEXT


def _sizes(frame_class: FrameClass, kind: int) -> str:
    sizes = {
        vector["expected"]["size"]
        for vector in ACCEPTED.values()
        if vector["fields"]["header"]["frame_class"] == frame_class.name
        and vector["fields"]["header"]["type"] == kind
    }
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"


@pytest.mark.parametrize("opcode", Opcode, ids=str)
def test_the_catalogue_of_commands_is_that_of_the_code(opcode: Opcode) -> None:
    # FF-LIM-02.
    rule = COMMANDS[opcode]
    lane = f"{rule.lane.value} {rule.lane.name.lower()}"

    assert (
        f"| 0x{opcode:04X} | {opcode.name} | {lane} "
        f"| {rule.ttl_limit_ms // 1000} s | {_sizes(FrameClass.CMD, opcode)} "
        f"| {_inline(rule.layout)} |"
    ) in LINES


@pytest.mark.parametrize("event_type", EventType, ids=str)
def test_the_catalogue_of_events_is_that_of_the_code(event_type: EventType) -> None:
    body = (
        "section 5.1"
        if event_type is EventType.RENTAL_ENDED
        else _inline(EVENTS[event_type])
    )

    assert (
        f"| 0x{event_type:04X} | {event_type.name} "
        f"| {_sizes(FrameClass.EVENT, event_type)} | {body} |"
    ) in LINES


@pytest.mark.parametrize("sync_type", SyncType, ids=str)
def test_the_catalogue_of_syncs_is_that_of_the_code(sync_type: SyncType) -> None:
    assert (
        f"| 0x{sync_type:04X} | {sync_type.name} "
        f"| {_sizes(FrameClass.SYNC, sync_type)} | {_inline(SYNCS[sync_type])} |"
    ) in LINES


@pytest.mark.parametrize("frame_class", FrameClass, ids=str)
def test_the_table_of_classes_is_that_of_the_code(frame_class: FrameClass) -> None:
    (line,) = [line for line in LINES if line.startswith(f"| {frame_class} |")]

    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == frame_class.label
    assert cells[2] == ("vehicle" if frame_class.from_vehicle else "fleet")
    assert cells[4].split(",")[0] == str(CLASS_LIMITS[frame_class])


@pytest.mark.parametrize("code", Code, ids=str)
def test_the_table_of_codes_is_that_of_the_code(code: Code) -> None:
    # FF-RES-05.
    (line,) = [
        line for line in LINES if line.startswith(f"| 0x{code:04X} | {code.name}")
    ]

    retry = "-" if code.local_only else retry_of(code).name
    assert line.endswith(f" | {retry} |")


@pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space.__name__))
def test_every_enumeration_is_printed(space: type[IntEnum]) -> None:
    members = ", ".join(f"{member.value} {member.name}" for member in space)

    assert f"| {space.__name__} | {members} |" in LINES


def test_every_bit_is_printed() -> None:
    for flags in (Bits, Rights):
        assert ", ".join(f"0x{bit.value:04X} {bit.name}" for bit in flags) in TEXT
    assert ", ".join(f"0x{flag.value:02X} {flag.name}" for flag in HelloFlags) in TEXT


def test_the_test_keys_are_printed() -> None:
    for key in (
        CAR_A_KEY,
        CAR_A_NEXT_KEY,
        CAR_B_KEY,
        CAR_C_KEY,
        COMMAND_KEY,
        RECEIPT_KEY,
        REVOKE_KEY,
        SERVICE_KEY,
        *ROOT_KEYS,
        NEW_ROOT_KEY,
    ):
        public = key.key.verify_key.raw
        row = f"{key.name} | {key.seed[:1].hex()} x 32 | {public.hex()}"
        assert f"| {row} | {key.key.key_id.hex()} |" in LINES
    for value in (FLEET_ID, CAR_A.raw, CAR_B.raw, CAR_C.raw, SESSION):
        assert value.hex() in TEXT
    for text in (
        str(CAR_A),
        str(CAR_B),
        str(CAR_C),
        VECTORS["sealed_secrets"]["public_key"],
    ):
        assert text in TEXT


def test_the_sizes_in_the_text_are_those_of_the_code() -> None:
    assert f"{OVERHEAD} to {FRAME_LIMIT} bytes" in TEXT
    assert (
        f"A RESULT frame has {VECTORS['result_ok']['expected']['size']} bytes" in TEXT
    )
    assert f"{VECTORS['sealed_secrets']['expected']['size']} bytes together" in TEXT
