"""Events of the car itself: service, tampering, configuration, keys and trust.

They are part of the catalogue in `protocol.event`.
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import Code, ConfigKind
from protocol.entry import LEDGER_ID_SIZE
from protocol.key_material import KEY_MATERIAL
from protocol.layout import (
    FLAG,
    HASH,
    ID,
    U8,
    U16,
    U32,
    U64,
    Layout,
    code_of,
    measured,
    reserved,
)
from protocol.rental_codes import (
    GrantAction,
    ResetReason,
    ServiceKind,
    ServiceModeReason,
    TamperKind,
)

PROOF_SIZE: Final = 64
"""Bytes of the proof that the car has the new key."""


@dataclass(frozen=True, slots=True)
class ServiceNeeded:
    """The car needs service (C30); told once for each need."""

    kind: ServiceKind
    """Which."""
    odometer_m: int | None
    """Distance ever driven, m."""


@dataclass(frozen=True, slots=True)
class ServiceCleared:
    """A need for service is over."""

    kind: ServiceKind
    """Which."""
    odometer_m: int | None
    """Distance ever driven, m."""


@dataclass(frozen=True, slots=True)
class Tampered:
    """Somebody meddled with the car or its devices."""

    kind: TamperKind
    """How."""


@dataclass(frozen=True, slots=True)
class ConfigurationActivated:
    """A configuration came whole and is in force."""

    kind: ConfigKind
    """Which."""
    version: int
    """Its version; only rises for each kind."""
    hash: bytes
    """32 bytes: SHA-256 of its body."""


@dataclass(frozen=True, slots=True)
class ConfigurationRefused:
    """A configuration did not come whole or cannot be read; the old one holds."""

    kind: ConfigKind
    """Which."""
    code: Code
    """Why."""
    version: int
    """The version that was refused."""


@dataclass(frozen=True, slots=True)
class KeyRotated:
    """The car signs by another key from the next frame on."""

    new_key: bytes
    """The raw public key: 32 bytes of Ed25519 or 33 of P-256."""
    proof: bytes
    """64 bytes: signed by the new key, see docs/protocol.md."""


@dataclass(frozen=True, slots=True)
class LedgerReset:
    """The car began this ledger in place of another; its first entry."""

    previous_ledger_id: bytes
    """8 bytes."""
    previous_head_seq: int
    """The newest entry that the car knows of it, 0 if unknown."""
    previous_head_hash: bytes
    """32 bytes: its `entry_hash`, zeros if unknown."""
    reason: ResetReason
    """Why."""


@dataclass(frozen=True, slots=True)
class TrustChanged:
    """The car took another trust bundle."""

    old_version: int
    """Before."""
    new_version: int
    """Now."""
    hash: bytes
    """32 bytes: SHA-256 of the body of the new bundle."""


@dataclass(frozen=True, slots=True)
class GrantChanged:
    """A grant was added or withdrawn."""

    grant_id: bytes
    """16 bytes."""
    action: GrantAction
    """Which of the two."""


@dataclass(frozen=True, slots=True)
class ServiceModeChanged:
    """Service mode began or ended."""

    on: bool
    """Whether it began."""
    reason: ServiceModeReason
    """Why."""


_ODOMETER: Final = measured(U32, 0xFFFF_FFFF)
_LEDGER: Final = cs.Bytes(LEDGER_ID_SIZE)

SERVICE_NEEDED: Final = Layout(
    ServiceNeeded,
    "kind" / code_of(U8, ServiceKind),
    reserved(3),
    "odometer_m" / _ODOMETER,
)
SERVICE_CLEARED: Final = Layout(
    ServiceCleared,
    "kind" / code_of(U8, ServiceKind),
    reserved(3),
    "odometer_m" / _ODOMETER,
)
TAMPER: Final = Layout(Tampered, "kind" / code_of(U8, TamperKind), reserved(3))
CONFIGURATION_ACTIVATED: Final = Layout(
    ConfigurationActivated,
    "kind" / code_of(U8, ConfigKind),
    reserved(3),
    "version" / U32,
    "hash" / HASH,
)
CONFIGURATION_REFUSED: Final = Layout(
    ConfigurationRefused,
    "kind" / code_of(U8, ConfigKind),
    reserved(1),
    "code" / code_of(U16, Code),
    "version" / U32,
)
KEY_ROTATED: Final = Layout(
    KeyRotated, "new_key" / KEY_MATERIAL, reserved(2), "proof" / cs.Bytes(PROOF_SIZE)
)
LEDGER_RESET: Final = Layout(
    LedgerReset,
    "previous_ledger_id" / _LEDGER,
    "previous_head_seq" / U64,
    "previous_head_hash" / HASH,
    "reason" / code_of(U8, ResetReason),
    reserved(3),
)
TRUST_CHANGED: Final = Layout(
    TrustChanged, "old_version" / U32, "new_version" / U32, "hash" / HASH
)
GRANT_CHANGED: Final = Layout(
    GrantChanged, "grant_id" / ID, "action" / code_of(U8, GrantAction), reserved(3)
)
SERVICE_MODE: Final = Layout(
    ServiceModeChanged,
    "on" / FLAG,
    "reason" / code_of(U8, ServiceModeReason),
    reserved(2),
)
