"""Code spaces of what happens around a rental: damage, payment, service, grants.

The rules of `protocol.codes` hold here too: a number is never used again.
"""

from enum import IntFlag, unique
from typing import Final

from protocol.codes import CodeSpace


@unique
class DamagePlace(CodeSpace):
    """Where on the car a damage is (C10)."""

    FRONT = 1
    REAR = 2
    LEFT = 3
    RIGHT = 4
    ROOF = 5
    GLASS = 6
    LIGHTS = 7
    MIRRORS = 8
    WHEELS = 9
    INTERIOR = 10


@unique
class DamageKind(CodeSpace):
    """What a damage is (C10)."""

    DENT = 1
    SCRATCH = 2
    CRACKED = 3
    BROKEN = 4
    MISSING = 5
    DIRT = 6
    CARELESS_USE = 7
    OTHER = 8


@unique
class PaymentOutcome(CodeSpace):
    """How the fleet decided about a payment (C21)."""

    PAID = 1
    REFUSED = 2


@unique
class ServiceRequest(CodeSpace):
    """What SERVICE asks for."""

    ON = 1
    OFF = 2


@unique
class ServiceKind(CodeSpace):
    """What a car needs service for (C30)."""

    PERIODIC = 1
    OIL = 2
    BRAKE_PADS = 3
    SEASONAL_TYRES = 4
    WASHER_FLUID = 5
    BATTERY = 6
    TROUBLE_CODES = 7


@unique
class ServiceModeReason(CodeSpace):
    """Why service mode began or ended."""

    COMMAND = 1
    CARD = 2
    EXPIRED = 3
    STORAGE = 4


@unique
class GrantAction(CodeSpace):
    """What becomes of a grant."""

    ADD = 1
    WITHDRAW = 2


@unique
class Component(CodeSpace):
    """What RESTART starts anew."""

    READER = 1
    BOARD = 2
    UPLINK = 3
    AGENT = 4


@unique
class TamperKind(CodeSpace):
    """What somebody did to the car or its devices."""

    HOUSING_OPENED = 1
    READER_EXCHANGED = 2
    BOARD_EXCHANGED = 3
    ENGINE_WITHOUT_RELEASE = 4
    MOVED_WITHOUT_RENTAL = 5


@unique
class ResetReason(CodeSpace):
    """Why a car began another ledger."""

    LOST = 1
    CORRUPT = 2
    RESTORED = 3


class Rights(IntFlag):
    """What the holder of a grant may do."""

    UNLOCK = 0x0001
    DRIVE = 0x0002
    SERVICE = 0x0004


KNOWN_RIGHTS: Final = 0x0007
"""Bits of `Rights` that version 1 defines; others are reserved and zero."""
