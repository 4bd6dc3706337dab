"""Which commands of the protocol this car carries out.

The catalogue of the wire is larger than what a car can do yet. What is not carried out
is not advertised, and is refused whole with a signed UNKNOWN_OPCODE, as a car of before
the opcode would do it (FF-CMD-03).
"""

from typing import Final, get_args

from protocol import command as orders
from protocol import rental_command

KnownCommand = (
    orders.Unlock
    | orders.Lock
    | orders.EngineRelease
    | orders.EngineHold
    | orders.Reserve
    | orders.CancelReservation
    | orders.SetMode
    | orders.FlashHazards
    | orders.Ping
    | orders.RotateKey
    | orders.Restart
    | orders.Reboot
    | orders.RequestSnapshot
    | orders.Explain
    | orders.ShowMessage
    | rental_command.SetDefaultMode
    | rental_command.HandoverOffer
    | rental_command.HandoverRequest
    | rental_command.Grant
    | rental_command.PaymentDecision
    | rental_command.Service
)
"""Commands that this car carries out."""

UnknownCommand = orders.UnlockAndEnable | orders.LockAndDisable
"""Commands that the wire has and this car does not carry out."""

REPERTOIRE: Final = tuple(orders.OPCODE_OF[record] for record in get_args(KnownCommand))
"""The opcodes of what this car carries out, as it advertises them."""
