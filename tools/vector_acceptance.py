"""Test vectors of acceptance: sound frames that a car refuses for what it knows itself.

Such a vector holds the car's knowledge beside the frame: its session, its clock, its
bundle, and what it has accepted before (docs/protocol.md, section 8).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from protocol.codes import (
    Code,
    FrameClass,
    FrameType,
    Lane,
    LockMode,
    Opcode,
    Role,
    Suite,
)
from protocol.command import ANY_VERSION, COMMANDS, Command, FlashHazards, Lock, Unlock
from protocol.identity import session_id
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import request_hash, sign_frame
from protocol.snapshot import NO_RENTAL
from protocol.trust import TrustBundle
from tools.published_keys import (
    CAR_B,
    CAR_B_KEY,
    CAR_C_KEY,
    COMMAND_KEY,
    FLEET_ID,
    LEDGER,
    MONO_MS,
    OTHER_FLEET_ID,
    RECEIPT_KEY,
    RENTAL,
    SERVICE_KEY,
    SESSION,
    WALL_MS,
    TestKey,
)
from tools.vector_cases import header_of
from tools.vector_story import message_id
from tools.vector_trust import TRUST_BUNDLE

_DAY_MS: Final = 86_400_000
_MESSAGE: Final = message_id(900)
_UNLOCK: Final = Unlock(RENTAL, ANY_VERSION)
_SEQ: Final = 40
"""Of every command here, in its key's lane."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """What car A knows when the frame comes."""

    session_id: bytes = SESSION
    boot_ms: int = MONO_MS
    """Its boot clock."""
    known_ms: int = WALL_MS
    """UTC ms that the fleet has told it just now."""
    group: int = 7
    bundle: TrustBundle = TRUST_BUNDLE
    last_seqs: tuple[tuple[bytes, Lane, int], ...] = ()
    """Key id, lane and the last sequence accepted in this session."""
    journal: tuple[tuple[bytes, bytes], ...] = ()
    """Message id and request hash of what it has accepted, all of this session."""
    retained: bool = False
    """Whether the broker had kept the frame."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame on the command topic, and how it fares."""

    name: str
    why: str
    key: TestKey
    frame: bytes
    code: Code | None
    """None if it is accepted."""
    receiver: Receiver = Receiver()
    is_executed_maybe: bool = False
    """Whether the answer must leave open that it has run."""


def _frame(
    *,
    key: TestKey = COMMAND_KEY,
    command: Command = _UNLOCK,
    opcode: Opcode = Opcode.UNLOCK,
    fleet_id: bytes = FLEET_ID,
    **header: object,
) -> bytes:
    rule = COMMANDS[opcode]
    fields = replace(
        header_of(
            FrameClass.CMD,
            key,
            type=opcode,
            lane=rule.lane,
            seq=_SEQ,
            mono_ms=MONO_MS + 5_000,
            msg_id=_MESSAGE,
        ),
        **header,  # type: ignore[arg-type] # by name
    )
    payload = rule.layout.build(command)
    return sign_frame(fields, payload, fleet_id=fleet_id, key=key.key)


def _receipt() -> bytes:
    header = header_of(
        FrameClass.RECEIPT, RECEIPT_KEY, type=FrameType.RECEIPT, seq=1, msg_id=_MESSAGE
    )
    payload = RECEIPT.build(Receipt(LEDGER, 1, bytes(32), 1, (), ()))
    return sign_frame(header, payload, fleet_id=FLEET_ID, key=RECEIPT_KEY.key)


def arrivals() -> Iterator[Arrival]:
    """Yield every case, by the steps of acceptance."""
    yield Arrival("accepted", "the others differ from it", COMMAND_KEY, _frame(), None)
    yield from _unanswered()
    yield from _not_fresh()
    yield from _not_allowed()


def _unanswered() -> Iterator[Arrival]:
    """Steps 1 to 5: answering would help a forger."""
    yield Arrival(
        "wrong_direction",
        "a receipt on the command topic",
        RECEIPT_KEY,
        _receipt(),
        Code.WRONG_DIRECTION,
    )
    yield Arrival(
        "wrong_vehicle",
        "signed for another car",
        COMMAND_KEY,
        _frame(vehicle_id=CAR_B),
        Code.WRONG_VEHICLE,
    )
    yield Arrival(
        "suite_not_in_bundle",
        "the bundle allows Ed25519 alone",
        SERVICE_KEY,
        _frame(key=SERVICE_KEY),
        Code.SUITE_FORBIDDEN,
        Receiver(bundle=replace(TRUST_BUNDLE, suites=(Suite.ED25519,))),
    )
    yield Arrival(
        "revoked",
        "the bundle names the key as revoked",
        CAR_B_KEY,
        _frame(key=CAR_B_KEY),
        Code.REVOKED,
    )
    yield Arrival(
        "stranger",
        "no bundle names the key",
        CAR_C_KEY,
        _frame(key=CAR_C_KEY),
        Code.UNKNOWN_KEY,
    )
    yield Arrival(
        "other_fleet",
        "signed for another fleet by the same key",
        COMMAND_KEY,
        _frame(fleet_id=OTHER_FLEET_ID),
        Code.BAD_SIGNATURE,
    )


def _not_fresh() -> Iterator[Arrival]:
    """Steps 6, 7 and 9: what was good at another time."""
    yield Arrival(
        "id_reused",
        "the id belongs to another command of the journal",
        COMMAND_KEY,
        _frame(),
        Code.ID_REUSED,
        Receiver(journal=((_MESSAGE, request_hash(b"another command")),)),
    )
    yield Arrival(
        "session_stale",
        "signed for a session that is over; it may have run in it",
        COMMAND_KEY,
        _frame(session_id=session_id(6, bytes(12))),
        Code.SESSION_STALE,
        is_executed_maybe=True,
    )
    yield Arrival(
        "retained",
        "a command that a broker kept is never fresh",
        COMMAND_KEY,
        _frame(),
        Code.RETAINED,
        Receiver(retained=True),
    )
    yield Arrival(
        "expired",
        "the last millisecond has passed by the car's own clock",
        COMMAND_KEY,
        _frame(mono_ms=MONO_MS),
        Code.EXPIRED,
    )
    yield Arrival(
        "ttl_too_long",
        "an hour is longer than an unlock may wait",
        COMMAND_KEY,
        _frame(mono_ms=MONO_MS + 3_600_000),
        Code.TTL_TOO_LONG,
    )
    yield Arrival(
        "ttl_beyond_the_key_s",
        "the opcode may wait so long, this key's commands may not",
        SERVICE_KEY,
        _frame(
            key=SERVICE_KEY,
            opcode=Opcode.LOCK,
            command=Lock(RENTAL, ANY_VERSION, LockMode.DEFAULT),
            mono_ms=MONO_MS + 10_001,
        ),
        Code.TTL_TOO_LONG,
    )
    yield Arrival(
        "superseded",
        "a sequence of this lane that is not above the last",
        COMMAND_KEY,
        _frame(),
        Code.SUPERSEDED,
        Receiver(last_seqs=((COMMAND_KEY.key.key_id, Lane.ACCESS, _SEQ),)),
    )


def _not_allowed() -> Iterator[Arrival]:
    """Step 8: what the key may not do."""
    yield Arrival(
        "role_of_receipts",
        "a receipt key signs no commands",
        RECEIPT_KEY,
        _frame(key=RECEIPT_KEY),
        Code.ROLE_FORBIDDEN,
    )
    for name, known_ms in (
        ("over", WALL_MS + 90 * _DAY_MS + 1),
        ("not_begun", WALL_MS - 1),
    ):
        yield Arrival(
            f"key_{name}",
            "out of the key's dates, by time that can be trusted",
            COMMAND_KEY,
            _frame(),
            Code.KEY_EXPIRED,
            Receiver(known_ms=known_ms),
        )
    yield Arrival(
        "other_group",
        "a key for the cars of group 7",
        SERVICE_KEY,
        _frame(key=SERVICE_KEY),
        Code.GROUP_MISMATCH,
        Receiver(group=3),
    )
    yield Arrival(
        "opcode_not_the_key_s",
        "a key that may sign three opcodes signs a fourth",
        SERVICE_KEY,
        _frame(
            key=SERVICE_KEY,
            opcode=Opcode.FLASH_HAZARDS,
            command=FlashHazards(NO_RENTAL, ANY_VERSION, 10),
        ),
        Code.OPCODE_FORBIDDEN,
    )
    bundle = replace(
        TRUST_BUNDLE,
        keys=tuple(
            replace(key, lanes=(Lane.DIAGNOSTICS,)) if key.role is Role.RENTAL else key
            for key in TRUST_BUNDLE.keys
        ),
    )
    yield Arrival(
        "lane_not_the_key_s",
        "the opcode is allowed, its lane is not",
        COMMAND_KEY,
        _frame(),
        Code.OPCODE_FORBIDDEN,
        Receiver(bundle=bundle),
    )
    yield Arrival(
        "lane_not_the_opcode_s",
        "each opcode has its one lane",
        COMMAND_KEY,
        _frame(lane=Lane.DIAGNOSTICS),
        Code.BAD_PARAM,
    )
