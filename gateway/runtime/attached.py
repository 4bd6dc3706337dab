"""What becomes durable in the same commit as a step, beside its decision."""

from dataclasses import dataclass
from typing import Final

from gateway.core.configuration import Complete
from gateway.core.trust_renewal import TrustInUse
from protocol.keys import SigningKey


@dataclass(frozen=True, slots=True)
class Attached:
    """Things of the shell that an entry of the step tells."""

    trust: TrustInUse | None = None
    """A bundle that is in use from now on."""
    expiry_told: bool = False
    """Whether the step tells that the bundle has expired."""
    successor: SigningKey | None = None
    """The key that signs after a rotation of this step."""
    configuration: Complete | None = None
    """A body that comes into force."""


NOTHING: Final = Attached()
