"""Orders: what a caller wants of a car, before it is a command.

Most orders are the protocol's own records. A reservation is not: it holds PINs in
clear, cards by their UID and a time span, and becomes a command only when the car's key
and clock are known. Secrets live in `ReserveOrder` alone, are sealed to the car here,
and are in no log, no store, no digest and no `repr`.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from bridge.clock import span_ms
from bridge.errors import OrderRefusedError, Refusal
from bridge.ports import RandomBytes
from protocol.codes import LockDefault, Opcode
from protocol.command import OPCODE_OF, Command, Reserve, build_command
from protocol.errors import EncodeError
from protocol.identity import ID_SIZE, VehicleId, card_digest
from protocol.sealing import make_secrets, seal

KINDS: Final = {
    Opcode.RESERVE: "reserve",
    Opcode.CANCEL_RESERVATION: "cancel",
    Opcode.UNLOCK: "unlock",
    Opcode.LOCK: "lock",
    Opcode.ENGINE_RELEASE: "engine_release",
    Opcode.ENGINE_HOLD: "engine_hold",
    Opcode.SET_MODE: "set_mode",
    Opcode.FLASH_HAZARDS: "flash_hazards",
    Opcode.PING: "ping",
    Opcode.ROTATE_KEY: "rotate_key",
}
"""What the API calls each opcode."""


@dataclass(frozen=True, slots=True)
class ReserveOrder:
    """Keep a car for one customer for a while (H1)."""

    rental_id: bytes
    """16 bytes, made by the fleet service."""
    expected_version: int
    """State version the caller saw, or `ANY_VERSION`."""
    hold_s: int
    """How long from now, in seconds."""
    cards: tuple[bytes, ...]
    """UIDs of the cards that open it."""
    lock_default: LockDefault
    """The customer's default mode on locking (C28)."""
    language: bytes
    """Two lower-case letters."""
    pin: str = field(repr=False)
    """The customer's PIN, 4 to 8 digits; empty for none."""
    fuel_card_pin: str = field(repr=False)
    """The fuel card's PIN; empty for none."""


Order = Command | ReserveOrder


def opcode_of(order: Order) -> Opcode:
    """Return the opcode that an order becomes."""
    if isinstance(order, ReserveOrder):
        return Opcode.RESERVE
    return OPCODE_OF[type(order)]


def complete(
    order: Order,
    *,
    vehicle_id: VehicleId,
    fleet_id: bytes,
    sealing_key: X25519PublicKey,
    car_now_ms: int,
    random_bytes: RandomBytes,
) -> bytes:
    """Return a command's payload; takes tens of milliseconds if a PIN is in it.

    Args:
        order: what is wanted.
        vehicle_id: of which car.
        fleet_id: 16 bytes; binds the sealed secrets.
        sealing_key: the car's.
        car_now_ms: its boot clock, at or behind the truth, so that the car never holds
            a reservation longer than the caller thinks (H1).
        random_bytes: makes the salt.

    Raises:
        OrderRefusedError: a value does not fit; the message names the field's rule and
            never its value.
    """
    try:
        if not isinstance(order, ReserveOrder):
            return build_command(order)
        sealed = b""
        if order.pin:
            secrets = make_secrets(
                order.pin, order.fuel_card_pin, salt=random_bytes(ID_SIZE)
            )
            sealed = seal(
                secrets,
                sealing_key,
                fleet_id=fleet_id,
                vehicle_id=vehicle_id,
                rental_id=order.rental_id,
            )
        return build_command(
            Reserve(
                rental_id=order.rental_id,
                expected_version=order.expected_version,
                reserved_until_ms=car_now_ms + span_ms(order.hold_s),
                lock_default=order.lock_default,
                language=order.language,
                cards=tuple(card_digest(order.rental_id, uid) for uid in order.cards),
                sealed=sealed,
            )
        )
    except EncodeError as error:
        raise OrderRefusedError(Refusal.BAD_VALUE, str(error)) from None


def digest_of(order: Order) -> bytes:
    """Return 32 bytes that tell a repeated order from another one.

    PINs are left out: their hash would be a PIN to whoever tries 10,000 of them. Cards
    count by the digest that the frame shows anyway.
    """
    if isinstance(order, ReserveOrder):
        parts = (
            order.rental_id.hex(),
            order.expected_version,
            order.hold_s,
            tuple(card_digest(order.rental_id, uid).hex() for uid in order.cards),
            order.lock_default,
            order.language.hex(),
            bool(order.pin),
            bool(order.fuel_card_pin),
        )
        text = repr(("reserve", *(str(part) for part in parts)))
    elif opcode_of(order) is Opcode.PING:
        # Its nonce is the bridge's own, new each time.
        text = "ping"
    else:
        text = f"{opcode_of(order):d} {build_command(order).hex()}"
    return hashlib.sha256(b"ff-order-v1\0" + text.encode()).digest()
