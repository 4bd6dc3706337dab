"""Nonces of the grace path: each good once, for one vehicle, for two minutes.

A nonce carries its own end and a MAC over it and the vehicle's id, so that giving one
costs no memory: whoever asks for a million of them fills nothing. What is kept is the
set of those that were used and have not ended. A restart of the service makes all of
them worthless, which costs a car one more request.
"""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final

from protocol.enrolment import GRACE_NONCE_SIZE
from protocol.identity import VehicleId

NONCE_LIFETIME: Final = timedelta(seconds=120)
"""From asking to using; a car on a slow network needs a few seconds."""

_RANDOM_SIZE: Final = 8
_MAC_SIZE: Final = 16
_PLAIN_SIZE: Final = GRACE_NONCE_SIZE - _MAC_SIZE


class Challenges:
    """Gives nonces and takes each back once."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._used: dict[bytes, int] = {}

    def give(self, vehicle_id: VehicleId, *, now: datetime) -> bytes:
        """Return a nonce for a vehicle, whether or not it exists."""
        end_ms = int((now + NONCE_LIFETIME).timestamp() * 1000)
        plain = end_ms.to_bytes(8, "big") + secrets.token_bytes(_RANDOM_SIZE)
        return plain + self._mac(plain, vehicle_id)

    def take(self, nonce: bytes, vehicle_id: VehicleId, *, now: datetime) -> bool:
        """Use a nonce; False if it is not ours, over, used, or another vehicle's."""
        now_ms = int(now.timestamp() * 1000)
        self._used = {used: end for used, end in self._used.items() if end > now_ms}
        plain, mac = nonce[:_PLAIN_SIZE], nonce[_PLAIN_SIZE:]
        end_ms = int.from_bytes(plain[:8], "big")
        if (
            not hmac.compare_digest(mac, self._mac(plain, vehicle_id))
            or end_ms <= now_ms
            or nonce in self._used
        ):
            return False
        self._used[nonce] = end_ms
        return True

    def _mac(self, plain: bytes, vehicle_id: VehicleId) -> bytes:
        mac = hmac.new(self._secret, plain + vehicle_id.raw, hashlib.sha256)
        return mac.digest()[:_MAC_SIZE]
