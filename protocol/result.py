"""Results: the car's signed answer to exactly one command.

A result names the command by id and by the hash of its bytes, says whether anything was
executed and what the sender may do next, and carries the state that the car is in now.
"Sent" is never "done": only code OK or ALREADY_IN_STATE means that the board read the
wanted state back.
"""

from dataclasses import dataclass
from typing import Final

from protocol.codes import Code, Executed, Retry
from protocol.layout import HASH, ID, U8, U16, Layout, code_of
from protocol.snapshot import SNAPSHOT, Snapshot


@dataclass(frozen=True, slots=True)
class Result:
    """The body of a RESULT frame, behind its entry link."""

    request_id: bytes
    """16 bytes: the command's message id."""
    request_hash: bytes
    """32 bytes: `protocol.signing.request_hash` of the command frame."""
    code: Code
    """How it ended."""
    executed: Executed
    """Whether anything moved, as far as the car can know."""
    retry: Retry
    """What the sender may do next."""
    snapshot: Snapshot
    """The state after it."""


RESULT: Final = Layout(
    Result,
    "request_id" / ID,
    "request_hash" / HASH,
    "code" / code_of(U16, Code),
    "executed" / code_of(U8, Executed),
    "retry" / code_of(U8, Retry),
    "snapshot" / SNAPSHOT.nested(),
)
"""90 bytes; a RESULT frame has 290."""

RETRY_OF: Final[dict[Code, Retry]] = {
    Code.OK: Retry.NEVER,
    Code.ALREADY_IN_STATE: Retry.NEVER,
    Code.SESSION_STALE: Retry.AFTER_RESYNC,
    Code.EXPIRED: Retry.NEW_COMMAND,
    Code.TTL_TOO_LONG: Retry.NEW_COMMAND,
    Code.SUPERSEDED: Retry.NEW_COMMAND,
    Code.ID_REUSED: Retry.NEW_COMMAND,
    Code.TRUST_TOO_OLD: Retry.AFTER_RESYNC,
    Code.STATE_VERSION: Retry.AFTER_RESYNC,
    Code.WRONG_RENTAL: Retry.AFTER_RESYNC,
    Code.WRONG_MODE: Retry.AFTER_RESYNC,
    Code.NOT_PARKED: Retry.AFTER_RESYNC,
    Code.VEHICLE_MOVING: Retry.AFTER_USER_ACTION,
    Code.IGNITION_ON: Retry.AFTER_USER_ACTION,
    Code.DOOR_OPEN: Retry.AFTER_USER_ACTION,
    Code.KEY_OR_CARD_MISSING: Retry.AFTER_USER_ACTION,
    Code.OUT_OF_ZONE: Retry.AFTER_USER_ACTION,
    Code.PIN_REQUIRED: Retry.AFTER_USER_ACTION,
    Code.LOW_VOLTAGE: Retry.NEW_COMMAND,
    Code.BUSY: Retry.SAME_BYTES,
    Code.RATE_LIMITED: Retry.SAME_BYTES,
    Code.QUEUE_FULL: Retry.SAME_BYTES,
    Code.ACTUATOR_TIMEOUT: Retry.NEW_COMMAND,
    Code.ACTUATOR_FAULT: Retry.NEW_COMMAND,
    Code.BUS_ERROR: Retry.NEW_COMMAND,
    Code.INDETERMINATE_AFTER_REBOOT: Retry.NEW_COMMAND,
}
"""What the sender may do after each code; every other code means NEVER."""


def retry_of(code: Code) -> Retry:
    """Return what the sender of a command may do after it ended with `code`."""
    return RETRY_OF.get(code, Retry.NEVER)
