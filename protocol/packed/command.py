"""`protocol.command` again, by hand: the payloads of all opcodes."""

import struct
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
    CARDS_LIMIT,
    COMMAND_SCHEMA,
    HAZARDS_LIMIT_S,
    OPCODE_OF,
    SEALED_LIMIT,
    CancelReservation,
    Command,
    EngineHold,
    EngineRelease,
    FlashHazards,
    Lock,
    Ping,
    Reserve,
    SetMode,
    Unlock,
)
from protocol.errors import DecodeError, EncodeError
from protocol.identity import ID_SIZE
from protocol.packed.record import (
    ID,
    U32,
    Packed,
    Zeros,
    built,
    member,
    parsed,
    within,
)


class Payload(Protocol):
    """How one opcode's payload is read and written."""

    def parse(self, data: bytes) -> Any:  # noqa: ANN401 - one record of `Command`
        """Decode all of `data`."""

    def build(self, value: Any) -> bytes:  # noqa: ANN401 - one record of `Command`
        """Encode a record."""


class _Reservation:
    """RESERVE: a fixed part, a list of cards and counted bytes."""

    _HEAD: Final = struct.Struct(">16sIQB2s")
    _LENGTH: Final = struct.Struct(">H")
    _DEFAULTS: Final = {int(default): default for default in LockDefault}
    _SIZES: Final = (ID_SIZE, 2)
    """Bytes of rental id and language."""

    def parse(self, data: bytes) -> Reserve:
        """Decode all of `data`."""
        return parsed("Reserve", self._read, data)

    def build(self, value: Reserve) -> bytes:
        """Encode a record."""
        return built("Reserve", self._write, value)

    def _read(self, data: bytes) -> tuple[Reserve, int]:
        rental_id, version, until_ms, default, language = self._HEAD.unpack_from(data)
        lock_default = self._DEFAULTS.get(default)
        if lock_default is None:
            raise DecodeError(
                Code.BAD_PARAM, f"Reserve: lock_default may not be {default}"
            )
        if not _is_language(language):
            raise DecodeError(
                Code.BAD_PARAM, f"Reserve: language may not be {language!r}"
            )
        count, at = data[self._HEAD.size], self._HEAD.size + 1
        if count > CARDS_LIMIT:
            raise DecodeError(
                Code.BAD_PARAM, f"Reserve: {count} cards, at most {CARDS_LIMIT} fit"
            )
        begin = at + count * ID_SIZE
        cards = tuple(data[i : i + ID_SIZE] for i in range(at, begin, ID_SIZE))
        # Reading the length proves that the cards before it are whole.
        (size,) = self._LENGTH.unpack_from(data, begin)
        begin += self._LENGTH.size
        end = begin + size
        if size > SEALED_LIMIT or end > len(data):
            raise DecodeError(
                Code.BAD_PARAM,
                f"Reserve: {size} sealed bytes, {len(data) - begin} came and at most "
                f"{SEALED_LIMIT} fit",
            )
        sealed = data[begin:end]
        return Reserve(
            rental_id, version, until_ms, lock_default, language, cards, sealed
        ), end

    def _write(self, value: Reserve) -> bytes:
        if (len(value.rental_id), len(value.language)) != self._SIZES:
            raise EncodeError("rental id or language has another length")
        if not _is_language(value.language):
            raise EncodeError(f"language may not be {value.language!r}")
        if len(value.cards) > CARDS_LIMIT or len(value.sealed) > SEALED_LIMIT:
            raise EncodeError(
                f"{len(value.cards)} cards and {len(value.sealed)} sealed bytes, at "
                f"most {CARDS_LIMIT} and {SEALED_LIMIT} fit"
            )
        if any(len(card) != ID_SIZE for card in value.cards):
            raise EncodeError(f"a card digest has {ID_SIZE} bytes")
        head = self._HEAD.pack(
            value.rental_id,
            value.expected_version,
            value.reserved_until_ms,
            LockDefault(value.lock_default),
            value.language,
        )
        return b"".join(
            (
                head,
                bytes([len(value.cards)]),
                *value.cards,
                self._LENGTH.pack(len(value.sealed)),
                value.sealed,
            )
        )


def _is_language(letters: bytes) -> bool:
    return letters.isalpha() and letters.islower()


COMMANDS: Final[dict[int, Payload]] = {
    Opcode.UNLOCK: Packed(Unlock, ID, U32),
    Opcode.LOCK: Packed(Lock, ID, U32, member(LockMode), Zeros(3)),
    Opcode.ENGINE_RELEASE: Packed(EngineRelease, ID, U32, member(HoldReason), Zeros(3)),
    Opcode.ENGINE_HOLD: Packed(EngineHold, ID, U32, member(HoldReason), Zeros(3)),
    Opcode.RESERVE: _Reservation(),
    Opcode.CANCEL_RESERVATION: Packed(
        CancelReservation, ID, U32, member(CancelReason), Zeros(3)
    ),
    Opcode.SET_MODE: Packed(SetMode, ID, U32, member(ModeRequest), Zeros(3)),
    Opcode.FLASH_HAZARDS: Packed(
        FlashHazards, ID, U32, within("B", 1, HAZARDS_LIMIT_S), Zeros(3)
    ),
    Opcode.PING: Packed(Ping, ID, U32, ID),
}
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
