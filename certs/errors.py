"""What can go wrong with keys and certificates, split by who is at fault.

::

    CertsError
    ├── RequestError      the caller's fault: a profile does not allow what is asked
    ├── ClaimError        the vehicle's fault: it did not prove that a key is its own
    │   └── ForkedError   a key that was replaced names a second successor; an attack
    ├── DuplicateError    that id or key is enrolled already; possibly an attack
    ├── FleetError        the directory's fault: missing, damaged or not ours to read
    │   └── ExistsError   something lies where we would write; it is untouched
    ├── BusyError         another process is issuing; retry
    └── PartialError      some of several vehicles were issued, then something failed

All but `PartialError` leave the fleet as it was.
"""

from typing import ClassVar


class CertsError(Exception):
    """Root of this package's errors; never raised itself."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed a little later."""
    may_have_taken_effect: ClassVar[bool] = False
    """Whether something was issued although the call failed."""

    def __init__(self, sentence: str, advice: str = "") -> None:
        """Keep what is wrong and what a person can do about it."""
        super().__init__(sentence)
        self.advice = advice


class RequestError(CertsError):
    """A name, host, key or lifetime that the profile does not allow."""


class ClaimError(CertsError):
    """A vehicle's claim does not prove possession of its keys; nothing was signed."""


class ForkedError(ClaimError):
    """A signing key that was replaced names another successor; nothing was signed."""


class DuplicateError(CertsError):
    """The vehicle id or one of its keys is enrolled already; nothing was signed."""


class FleetError(CertsError):
    """The fleet directory is missing, damaged, or not readable or writable by us."""


class ExistsError(FleetError):
    """Something lies where a file would be written; not a byte of it was changed."""


class BusyError(CertsError):
    """Another process is issuing in this fleet; nothing was done."""

    retryable = True


class PartialError(CertsError):
    """Vehicles issued before the failure are complete and registered; the rest not."""

    may_have_taken_effect = True

    def __init__(self, issued: int, wanted: int, cause: str) -> None:
        """Keep how far it went."""
        super().__init__(
            f"{issued} of {wanted} vehicles were issued, then: {cause}",
            "the issued ones are complete; put right what failed, then issue the "
            f"other {wanted - issued}",
        )
        self.issued = issued
