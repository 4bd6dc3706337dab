"""Which commands of the protocol this car carries out.

The catalogue of the wire is larger than what a car can do yet. What is not carried out
is not advertised, and is refused whole with a signed UNKNOWN_OPCODE, as a car of before
the opcode would do it: a sender need not tell the two apart (protocol-design.md 1.5).
"""

from typing import Final, get_args

from protocol import command as orders
from protocol import rental_command
from protocol.codes import Opcode

UnknownCommand = (
    orders.UnlockAndEnable
    | orders.LockAndDisable
    | rental_command.SetDefaultMode
    | rental_command.PaymentDecision
    | rental_command.HandoverOffer
    | rental_command.HandoverRequest
    | rental_command.Service
    | rental_command.Grant
    | orders.ShowMessage
    | orders.Restart
    | orders.Reboot
    | orders.RequestSnapshot
    | orders.RotateKey
)
"""Commands that the wire has and this car does not carry out."""

_UNKNOWN: Final = frozenset(
    orders.OPCODE_OF[record] for record in get_args(UnknownCommand)
)

REPERTOIRE: Final = tuple(
    opcode for opcode in orders.COMMANDS if opcode not in _UNKNOWN
)
"""What this car carries out, as it advertises it."""


def known_opcode(number: int) -> Opcode | None:
    """Return the opcode of a number, None for one that this car does not carry out."""
    return next((opcode for opcode in REPERTOIRE if opcode == number), None)
