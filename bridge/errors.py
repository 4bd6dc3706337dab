"""What can go wrong in the bridge, split by who is at fault.

::

    BridgeError
    ├── SettingsError        the operator's: a setting or a file of the bridge
    │   ├── RegistryError    a vehicle's record cannot be believed
    │   └── TrustError       a trust bundle does not follow the one before
    ├── StoreError           the medium's: the database did not commit
    │   ├── LeaseLostError   another bridge does this now
    │   └── UndecidedError   it may have committed, and may not have
    ├── SigningError         the caller's: this signer may not sign that
    │   └── CapError         not now: a cap of the signer is reached
    ├── NotConnectedError    the medium's: there is no broker now
    │   └── NoSignerError    there is no signer now, or it is too slow
    ├── OrderRefusedError    the caller's: the order cannot be given to this car now
    ├── GapError             the caller's: these entries may not be given up
    ├── EvidenceError        the operator's: a public part of a proof cannot be read
    └── SinkError            the consumer's: an event was not taken

Every class answers `retryable` and `may_have_taken_effect`. No message holds a key, a
PIN or a whole card UID.
"""

from enum import StrEnum, unique
from typing import ClassVar


class BridgeError(Exception):
    """Root of this package's errors; never raised itself."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""
    may_have_taken_effect: ClassVar[bool] = False
    """Whether something may have happened although this error was raised."""

    def __init__(self, message: str, *, advice: str = "") -> None:
        """Keep one sentence and what to do about it."""
        super().__init__(message)
        self.advice = advice


class SettingsError(BridgeError):
    """A setting or a file that a setting names cannot be used; nothing was started."""


class RegistryError(SettingsError):
    """A vehicle's record is refused; frames of that vehicle will be too."""


class TrustError(SettingsError):
    """A trust bundle is refused or cannot be read; the newest known one counts on."""


class StoreError(BridgeError):
    """The database did not commit; everything of that transaction is undone."""

    retryable = True


class UndecidedError(StoreError):
    """The database went silent at the commit: it may have taken effect, or may yet."""

    may_have_taken_effect = True

    def __init__(self, message: str, *, command_id: bytes = b"") -> None:
        """Keep which command it is about; empty for none."""
        super().__init__(message)
        self.command_id = command_id


class LeaseLostError(StoreError):
    """Another bridge took over what this one did; nothing was written."""

    retryable = False


class SigningError(BridgeError):
    """The signer's key may not sign this; nothing was signed and nothing is sent."""


class CapError(SigningError):
    """A cap of the signer is reached; nothing was signed, and it may be asked later."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        """Keep when there is room again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotConnectedError(BridgeError):
    """There is no link to the broker; nothing was sent."""

    retryable = True


class NoSignerError(NotConnectedError):
    """The signer's process does not answer; what it signs later is never sent."""


class GapError(BridgeError):
    """These entries may not be given up; nothing changed."""


class EvidenceError(BridgeError):
    """A part that belongs to a proof cannot be read; nothing was made."""


class SinkError(BridgeError):
    """A consumer did not take an event; it stays in the outbox."""

    retryable = True
    may_have_taken_effect = True

    def __init__(
        self, message: str, *, is_permanent: bool = False, retry_after_s: float = 0.0
    ) -> None:
        """Say whether the consumer does not want it, or when it wants to be asked."""
        super().__init__(message)
        self.is_permanent = is_permanent
        self.retry_after_s = retry_after_s


@unique
class Refusal(StrEnum):
    """Why an order was not turned into a command."""

    UNKNOWN_VEHICLE = "unknown-vehicle"
    OFFLINE = "vehicle-offline"
    IN_DOUBT = "vehicle-in-doubt"
    UNSUPPORTED = "unsupported-capability"
    NO_CLOCK = "no-clock-estimate"
    RENTAL_OPEN = "lost-rental-open"
    NOT_PROVED = "not-proved-undone"
    TOO_LATE = "too-late-to-cancel"
    KEY_REUSED = "idempotency-key-reused"
    BAD_VALUE = "bad-value"
    FORBIDDEN = "signer-refuses"
    SIGNER_LIMIT = "signer-limit"
    NO_SIGNER = "signer-unavailable"


class OrderRefusedError(BridgeError):
    """An order that cannot be given now; nothing was signed and nothing is sent."""

    def __init__(
        self,
        refusal: Refusal,
        message: str,
        *,
        field: str = "",
        capability: str = "",
        retry_after_s: int = 0,
    ) -> None:
        """Keep the reason, a sentence, and the field at fault or when to come back.

        `capability` is the kind of order that the vehicle lacks.
        """
        super().__init__(message)
        self.refusal = refusal
        self.field = field
        self.capability = capability
        self.retry_after_s = retry_after_s


def refused_by_signer(error: SigningError | NoSignerError) -> OrderRefusedError:
    """Return the refusal of an order that nobody signed."""
    if isinstance(error, NoSignerError):
        return OrderRefusedError(Refusal.NO_SIGNER, str(error), retry_after_s=2)
    if isinstance(error, CapError):
        return OrderRefusedError(
            Refusal.SIGNER_LIMIT, str(error), retry_after_s=error.retry_after_s
        )
    return OrderRefusedError(Refusal.FORBIDDEN, str(error))
