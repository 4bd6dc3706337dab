"""When a car renews its TLS certificate; values in, values out.

Rules (reliability.md K9, row 34):

1. It becomes due at two thirds of its life, so that a third of it is left for a CA or a
   network that is down.
2. Each car adds a share of a tenth of the life that follows from its id: a fleet whose
   certificates were made on one day does not ask on one day, and a car that restarts
   finds the same instant again.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from protocol.identity import VehicleId

_JITTER_CONTEXT: Final = b"ff-renewal-v1\0"
"""The share must not equal that of anything else that is spread by the id."""


@dataclass(frozen=True, slots=True)
class RenewalPlan:
    """When one certificate is to be exchanged."""

    due_ms: int
    """UTC ms from which a new one is asked for."""
    expires_ms: int
    """UTC ms from which it opens no connection."""


def plan_renewal(certificate: x509.Certificate, vehicle_id: VehicleId) -> RenewalPlan:
    """Return when this certificate of this car is due."""
    begin_ms = _ms(certificate.not_valid_before_utc)
    end_ms = _ms(certificate.not_valid_after_utc)
    life_ms = end_ms - begin_ms
    return RenewalPlan(
        due_ms=begin_ms + life_ms * 2 // 3 + _jitter_ms(vehicle_id, life_ms // 10),
        expires_ms=end_ms,
    )


def _jitter_ms(vehicle_id: VehicleId, below_ms: int) -> int:
    digest = hashlib.sha256(_JITTER_CONTEXT + vehicle_id.raw).digest()
    return int.from_bytes(digest[:8], "big") * below_ms >> 64


def _ms(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000
