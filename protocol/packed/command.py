"""`protocol.command` again, by hand: the payloads of all opcodes."""

from typing import Any, Final, Protocol

from protocol.codes import (
    CancelReason,
    Code,
    HoldReason,
    LockDefault,
    LockMode,
    ModeRequest,
    Opcode,
)
from protocol.command import (
    ARGUMENT_LIMIT,
    ARGUMENTS_LIMIT,
    COMMAND_SCHEMA,
    HAZARDS_LIMIT_S,
    OPCODE_OF,
    CancelReservation,
    Command,
    EngineHold,
    EngineRelease,
    Explain,
    FlashHazards,
    Lock,
    LockAndDisable,
    Ping,
    Reboot,
    RequestSnapshot,
    Reserve,
    Restart,
    RotateKey,
    SetMode,
    ShowMessage,
    Unlock,
    UnlockAndEnable,
)
from protocol.command_field import CARDS_LIMIT, SEALED_LIMIT
from protocol.diagnosis import ExplainSubject
from protocol.errors import DecodeError
from protocol.identity import ID_SIZE
from protocol.packed.place import LATITUDE_E7, LONGITUDE_E7
from protocol.packed.record import (
    ID,
    U16,
    U32,
    U64,
    Field,
    Packed,
    Zeros,
    letters,
    member,
    within,
)
from protocol.packed.varied import Counted, Exact, Items, Text, Varied
from protocol.rental_codes import (
    KNOWN_RIGHTS,
    Component,
    GrantAction,
    PaymentOutcome,
    Rights,
    ServiceRequest,
)
from protocol.rental_command import (
    NAME_LIMIT,
    Grant,
    HandoverOffer,
    HandoverRequest,
    PaymentDecision,
    Service,
    SetDefaultMode,
)


class Payload(Protocol):
    """How one opcode's payload is read and written."""

    def parse(self, data: bytes) -> Any:  # noqa: ANN401 - one record of `Command`
        """Decode all of `data`."""

    def build(self, value: Any) -> bytes:  # noqa: ANN401 - one record of `Command`
        """Encode a record."""


def _rights_of(raw: int) -> Rights:
    if raw & ~KNOWN_RIGHTS:
        raise ValueError(f"reserved bits 0x{raw & ~KNOWN_RIGHTS:X} set")
    return Rights(raw)


_RIGHTS: Final = Field("H", _rights_of, lambda rights: int(_rights_of(rights)))
_LANGUAGE: Final = letters(2, upper=False)
_CARDS: Final = Items(Exact(ID_SIZE), CARDS_LIMIT)
_SEALED: Final = Counted(SEALED_LIMIT)

COMMANDS: Final[dict[int, Payload]] = {
    Opcode.UNLOCK: Packed(Unlock, ID, U32),
    Opcode.LOCK: Packed(Lock, ID, U32, member(LockMode), Zeros(3)),
    Opcode.ENGINE_RELEASE: Packed(EngineRelease, ID, U32, member(HoldReason), Zeros(3)),
    Opcode.ENGINE_HOLD: Packed(EngineHold, ID, U32, member(HoldReason), Zeros(3)),
    Opcode.RESERVE: Varied(
        Reserve, ID, U32, U64, member(LockDefault), _LANGUAGE, _CARDS, _SEALED
    ),
    Opcode.CANCEL_RESERVATION: Packed(
        CancelReservation, ID, U32, member(CancelReason), Zeros(3)
    ),
    Opcode.SET_MODE: Packed(SetMode, ID, U32, member(ModeRequest), Zeros(3)),
    Opcode.FLASH_HAZARDS: Packed(
        FlashHazards, ID, U32, within("B", 1, HAZARDS_LIMIT_S), Zeros(3)
    ),
    Opcode.PING: Packed(Ping, ID, U32, ID),
    Opcode.UNLOCK_AND_ENABLE: Packed(UnlockAndEnable, ID, U32),
    Opcode.LOCK_AND_DISABLE: Packed(
        LockAndDisable, ID, U32, member(LockMode), Zeros(3)
    ),
    Opcode.SET_DEFAULT_MODE: Packed(
        SetDefaultMode, ID, U32, member(LockDefault), Zeros(3)
    ),
    Opcode.PAYMENT_DECISION: Packed(
        PaymentDecision,
        ID, U32, ID, member(PaymentOutcome), letters(3, upper=True), U32,
    ),
    Opcode.HANDOVER_OFFER: Varied(
        HandoverOffer, ID, U32, ID, U64, LATITUDE_E7, LONGITUDE_E7, _CARDS, _SEALED
    ),
    Opcode.HANDOVER_REQUEST: Varied(
        HandoverRequest,
        ID, U32, ID, U64, LATITUDE_E7, LONGITUDE_E7, U16, Text(NAME_LIMIT),
    ),
    Opcode.SERVICE: Packed(Service, ID, U32, member(ServiceRequest), Zeros(3), U64),
    Opcode.GRANT: Varied(
        Grant,
        ID, U32, member(GrantAction), Zeros(3), ID, ID, U64, U64,
        _RIGHTS, member(LockDefault), _LANGUAGE, _SEALED,
    ),
    Opcode.SHOW_MESSAGE: Varied(
        ShowMessage,
        ID, U32, U16, Items(Text(ARGUMENT_LIMIT), ARGUMENTS_LIMIT),
        within("B", 1, 0xFF),
    ),
    Opcode.RESTART: Packed(Restart, ID, U32, member(Component), Zeros(3)),
    Opcode.REBOOT: Packed(Reboot, ID, U32),
    Opcode.SNAPSHOT: Packed(RequestSnapshot, ID, U32),
    Opcode.EXPLAIN: Packed(Explain, ID, U32, member(ExplainSubject), Zeros(3), ID),
    Opcode.ROTATE_KEY: Packed(RotateKey, ID, U32),
}  # fmt: skip
"""Every opcode of version 1 (docs/protocol.md, commands)."""


def parse_command(opcode: int, schema: int, payload: bytes) -> Command:
    """Decode a verified command's payload as `protocol.command.parse_command` does.

    Raises:
        DecodeError: the same bytes, the same code.
    """
    try:
        packed = COMMANDS[opcode]
    except KeyError:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"opcode 0x{opcode:04X} is not known"
        ) from None
    if schema != COMMAND_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {schema} of {Opcode(opcode).name}, this reads {COMMAND_SCHEMA}",
        )
    command: Command = packed.parse(payload)
    return command


def build_command(command: Command) -> bytes:
    """Encode a command's payload.

    Raises:
        EncodeError: a value does not fit its field.
    """
    return COMMANDS[OPCODE_OF[type(command)]].build(command)
