"""`protocol.sync` and `protocol.death` again, by hand."""

import struct
from typing import Final

from protocol.codes import ClockQuality, Code, ConfigKind, DeathReason, SyncType
from protocol.death import Death
from protocol.entry import FIRST_SEQ, LEDGER_ID_SIZE
from protocol.errors import DecodeError
from protocol.packed.command import Payload
from protocol.packed.record import (
    HASH,
    ID,
    U64,
    Packed,
    Zeros,
    built,
    exactly,
    member,
    parsed,
    within,
)
from protocol.sync import (
    CHUNK_LIMIT,
    CONFIG_LIMIT,
    SYNC_SCHEMA,
    Challenge,
    ConfigChunk,
    ConfigOffer,
    FleetTime,
    Resend,
    SyncBody,
)

_VERSION: Final = within("I", 1, 0xFFFF_FFFF)


class _Range:
    """RESEND: its last number is not below its first."""

    _FIELDS: Final = Packed(
        Resend, exactly(LEDGER_ID_SIZE), within("Q", FIRST_SEQ, 2**64 - 1), U64
    )

    def parse(self, data: bytes) -> Resend:
        """Decode all of `data`."""
        return parsed("Resend", self._read, data)

    def build(self, value: Resend) -> bytes:
        """Encode a record."""
        return built("Resend", self._write, value)

    def _read(self, data: bytes) -> tuple[Resend, int]:
        resend = self._FIELDS.read(data)
        _require_forward(resend)
        return resend, self._FIELDS.size

    def _write(self, value: Resend) -> bytes:
        _require_forward(value)
        return self._FIELDS.write(value)


def _require_forward(resend: Resend) -> None:
    if resend.first > resend.last:
        raise ValueError(f"a range from {resend.first} back to {resend.last}")


class _Chunk:
    """CONFIG_CHUNK: a fixed part and counted bytes."""

    _HEAD: Final = struct.Struct(">B3sIIH")
    _KINDS: Final = {int(kind): kind for kind in ConfigKind}
    _ZEROS: Final = bytes(3)

    def parse(self, data: bytes) -> ConfigChunk:
        """Decode all of `data`."""
        return parsed("ConfigChunk", self._read, data)

    def build(self, value: ConfigChunk) -> bytes:
        """Encode a record."""
        return built("ConfigChunk", self._write, value)

    def _read(self, data: bytes) -> tuple[ConfigChunk, int]:
        kind, zeros, version, offset, size = self._HEAD.unpack_from(data)
        end = self._HEAD.size + size
        if zeros != self._ZEROS or end > len(data):
            raise DecodeError(
                Code.BAD_PARAM,
                f"ConfigChunk: reserved bytes {zeros.hex()}, {size} bytes announced of "
                f"{len(data) - self._HEAD.size}",
            )
        chunk = ConfigChunk(
            self._KINDS[kind], version, offset, data[self._HEAD.size : end]
        )
        self._require_bounds(chunk)
        return chunk, end

    def _write(self, value: ConfigChunk) -> bytes:
        self._require_bounds(value)
        size = len(value.data)
        head = self._HEAD.pack(
            ConfigKind(value.kind), self._ZEROS, value.version, value.offset, size
        )
        return head + value.data

    def _require_bounds(self, chunk: ConfigChunk) -> None:
        if not (
            chunk.version >= 1
            and 0 <= chunk.offset < CONFIG_LIMIT
            and 1 <= len(chunk.data) <= CHUNK_LIMIT
        ):
            raise ValueError(
                f"version {chunk.version}, offset {chunk.offset} or "
                f"{len(chunk.data)} bytes out of bounds"
            )


SYNCS: Final[dict[int, Payload]] = {
    SyncType.RESEND: _Range(),
    SyncType.CONFIG: Packed(
        ConfigOffer,
        member(ConfigKind),
        Zeros(3),
        _VERSION,
        within("I", 1, CONFIG_LIMIT),
        HASH,
    ),
    SyncType.CONFIG_CHUNK: _Chunk(),
    SyncType.CHALLENGE: Packed(Challenge, ID),
    SyncType.TIME: Packed(FleetTime, member(ClockQuality), Zeros(7)),
}
"""Every type of SYNC in version 1 (docs/protocol.md, synchronisation)."""

DEATH: Final = Packed(Death, member(DeathReason), Zeros(7))
"""8 bytes."""


def parse_sync(sync_type: int, schema: int, payload: bytes) -> SyncBody:
    """Decode a verified SYNC frame's payload as `protocol.sync.parse_sync` does.

    Raises:
        DecodeError: the same bytes, the same code.
    """
    try:
        packed = SYNCS[sync_type]
    except KeyError:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"type 0x{sync_type:04X} of class sync"
        ) from None
    if schema != SYNC_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {schema} of class sync, this reads {SYNC_SCHEMA}",
        )
    body: SyncBody = packed.parse(payload)
    return body
