"""Orders: what a caller wants of a car, before it is a command.

Most orders are the protocol's own records. Those that hold secrets, cards or a span of
time become one only when the car is known (`bridge.bound_orders`).
"""

import hashlib
from typing import Final

from bridge.bound_orders import (
    GrantOrder,
    HandoverOfferOrder,
    HandoverRequestOrder,
    KnownCar,
    ReserveOrder,
    ServiceOrder,
)
from bridge.errors import OrderRefusedError, Refusal
from protocol.codes import Opcode
from protocol.command import OPCODE_OF, Command, build_command
from protocol.errors import EncodeError

KINDS: Final = {
    Opcode.UNLOCK_AND_ENABLE: "unlock_and_enable",
    Opcode.LOCK_AND_DISABLE: "lock_and_disable",
    Opcode.RESERVE: "reserve",
    Opcode.CANCEL_RESERVATION: "cancel",
    Opcode.UNLOCK: "unlock",
    Opcode.LOCK: "lock",
    Opcode.ENGINE_RELEASE: "engine_release",
    Opcode.ENGINE_HOLD: "engine_hold",
    Opcode.SET_MODE: "set_mode",
    Opcode.SET_DEFAULT_MODE: "set_default_mode",
    Opcode.PAYMENT_DECISION: "payment_decision",
    Opcode.HANDOVER_OFFER: "handover_offer",
    Opcode.HANDOVER_REQUEST: "handover_request",
    Opcode.GRANT: "grant",
    Opcode.SERVICE: "service",
    Opcode.FLASH_HAZARDS: "flash_hazards",
    Opcode.SHOW_MESSAGE: "show_message",
    Opcode.PING: "ping",
    Opcode.SNAPSHOT: "snapshot",
    Opcode.EXPLAIN: "explain",
    Opcode.RESTART: "restart",
    Opcode.REBOOT: "reboot",
    Opcode.ROTATE_KEY: "rotate_key",
}
"""What the API calls each opcode."""

BoundOrder = (
    ReserveOrder | GrantOrder | HandoverOfferOrder | HandoverRequestOrder | ServiceOrder
)
"""Orders that are bound to a car before they are a command."""

_OPCODES: Final = {
    ReserveOrder: Opcode.RESERVE,
    GrantOrder: Opcode.GRANT,
    HandoverOfferOrder: Opcode.HANDOVER_OFFER,
    HandoverRequestOrder: Opcode.HANDOVER_REQUEST,
    ServiceOrder: Opcode.SERVICE,
    **OPCODE_OF,
}

Order = Command | BoundOrder


def opcode_of(order: Order) -> Opcode:
    """Return the opcode that an order becomes."""
    return _OPCODES[type(order)]


def complete(order: Order, car: KnownCar) -> bytes:
    """Return a command's payload; takes tens of milliseconds if a PIN is in it.

    Args:
        order: what is wanted.
        car: of which car.

    Raises:
        OrderRefusedError: a value does not fit; the message names the field's rule and
            never its value.
    """
    try:
        command = order.bound(car) if isinstance(order, BoundOrder) else order
        return build_command(command)
    except EncodeError as error:
        raise OrderRefusedError(Refusal.BAD_VALUE, str(error)) from None


def digest_of(order: Order) -> bytes:
    """Return 32 bytes that tell a repeated order from another one.

    PINs are left out: their hash would be a PIN to whoever tries 10,000 of them. Cards
    count by the digest that the frame shows anyway.
    """
    if isinstance(order, BoundOrder):
        text = repr(order.told())
    elif opcode_of(order) is Opcode.PING:
        # Its nonce is the bridge's own, new each time.
        text = "ping"
    else:
        text = f"{opcode_of(order):d} {build_command(order).hex()}"
    return hashlib.sha256(b"ff-order-v1\0" + text.encode()).digest()
