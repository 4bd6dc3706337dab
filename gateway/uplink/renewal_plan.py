"""When a car renews its TLS certificate; values in, values out.

Rules (reliability.md K9, row 34):

1. It becomes due before two thirds of its life have passed, so that a CA or a network
   that is down for a third of the life harms no car at all.
2. What spreads the cars is taken off and never added: each asks between 11/20 and 13/20
   of the life, at a share that follows from its id. A fleet whose certificates
   were made on one day does not ask on one day, and a car that restarts finds the same
   instant again.
3. Between 13/20 and two thirds lies a sixtieth of the life. No wait between two
   attempts is longer than a ninetieth, so the one behind such an outage is in time.
"""

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Final

from cryptography import x509

from protocol.identity import VehicleId

LAST_DUE: Final = Fraction(13, 20)
"""Share of the life after which every car has asked."""

SPREAD: Final = Fraction(1, 10)
"""Share of the life before that over which the cars are spread: 34 hours of 14 days."""

WAIT_LIMIT: Final = Fraction(1, 90)
"""Longest wait between two attempts, as a share of the life: 3.7 hours of 14 days."""

_JITTER_CONTEXT: Final = b"ff-renewal-v1\0"
"""The share must not equal that of anything else that is spread by the id."""


@dataclass(frozen=True, slots=True)
class RenewalPlan:
    """When one certificate is to be exchanged."""

    due_ms: int
    """UTC ms from which a new one is asked for."""
    expires_ms: int
    """UTC ms from which it opens no connection."""
    longest_wait_ms: int
    """Longest wait between two attempts, ms (rule 3)."""


def plan_renewal(certificate: x509.Certificate, vehicle_id: VehicleId) -> RenewalPlan:
    """Return when this certificate of this car is due."""
    begin_ms = _ms(certificate.not_valid_before_utc)
    end_ms = _ms(certificate.not_valid_after_utc)
    life_ms = end_ms - begin_ms
    spread_ms = math.floor(life_ms * SPREAD)
    return RenewalPlan(
        due_ms=begin_ms
        + math.floor(life_ms * LAST_DUE)
        - _jitter_ms(vehicle_id, spread_ms),
        expires_ms=end_ms,
        longest_wait_ms=math.floor(life_ms * WAIT_LIMIT),
    )


def _jitter_ms(vehicle_id: VehicleId, below_ms: int) -> int:
    digest = hashlib.sha256(_JITTER_CONTEXT + vehicle_id.raw).digest()
    return int.from_bytes(digest[:8], "big") * below_ms >> 64


def _ms(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000
