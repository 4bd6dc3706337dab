"""Why the enrolment service gives nothing: one word for a program, two for a person."""

from enum import StrEnum, unique

from certs.errors import CertsError


@unique
class Reason(StrEnum):
    """The word in an answer; a car decides by it what to do next."""

    MALFORMED = "malformed"
    KEY_REUSED = "key_reused"
    REQUEST_REFUSED = "request_refused"
    CERTIFICATE_REQUIRED = "certificate_required"
    NONCE_INVALID = "nonce_invalid"
    NOT_PROVED = "not_proved"
    CLAIM_INVALID = "claim_invalid"
    REVOKED = "revoked"
    NOT_REGISTERED = "not_registered"
    GRACE_OVER = "grace_over"
    UNKNOWN_PATH = "unknown_path"
    METHOD = "method"
    REGISTERED_ALREADY = "registered_already"
    TOO_LARGE = "too_large"
    TOO_OFTEN = "too_often"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


class RefusedError(CertsError):
    """An enrolment or renewal was refused; nothing was signed or written."""

    def __init__(
        self, reason: Reason, detail: str, advice: str = "", *, retry_after_s: int = 0
    ) -> None:
        super().__init__(detail, advice)
        self.reason = reason
        """The word."""
        self.retry_after_s = retry_after_s
        """Seconds to wait at least; 0 for no advice."""


def claim_invalid() -> RefusedError:
    """Return the one answer to every claim that does not hold.

    Unknown, used, over, another vehicle's: whoever guesses learns nothing from it.
    """
    return RefusedError(
        Reason.CLAIM_INVALID,
        "the claim does not hold for this vehicle",
        "make a new claim with `freefloat certs claim`; each is good once",
    )


def not_proved() -> RefusedError:
    """Return the one answer to an unknown vehicle and to a wrong signature."""
    return RefusedError(
        Reason.NOT_PROVED,
        "the request is not signed by the signing key of a registered vehicle",
        "check the vehicle id and that the car holds the key it was enrolled with",
    )
