"""The car's sealing key at work: comparing PINs and opening the fuel card's PIN (H6).

A PIN comes in, a verdict goes out; neither PINs nor what was sealed is kept, logged or
put into an error.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.core.events import PinVerdict
from gateway.ports import Worker
from protocol.errors import DecodeError, SealError
from protocol.identity import VehicleId
from protocol.sealing import Secrets, fuel_card_pin_of, pin_matches, unseal


class SealedVault:
    """Implements `gateway.ports.Vault` with a key in memory.

    Args:
        key: the car's sealing key.
        fleet_id: 16 bytes; with vehicle and rental the context of every seal.
        vehicle_id: this car.
        worker: runs the memory-hard comparison; another one than the store's, so that
            a driver typing a PIN does not hold up a commit.
    """

    def __init__(
        self,
        key: X25519PrivateKey,
        *,
        fleet_id: bytes,
        vehicle_id: VehicleId,
        worker: Worker,
    ) -> None:
        self._key = key
        self._fleet_id = fleet_id
        self._vehicle_id = vehicle_id
        self._worker = worker

    async def check_pin(self, sealed: bytes, rental_id: bytes, pin: str) -> PinVerdict:
        """Compare a PIN with the sealed verifier."""
        return await self._worker.run(lambda: self._check(sealed, rental_id, pin))

    async def fuel_card_pin(self, sealed: bytes, rental_id: bytes) -> str:
        """Return the fuel card's PIN; empty when there is none or it does not open."""
        secrets = await self._worker.run(lambda: self._unsealed(sealed, rental_id))
        return "" if secrets is None else fuel_card_pin_of(secrets)

    def _check(self, sealed: bytes, rental_id: bytes, pin: str) -> PinVerdict:
        secrets = self._unsealed(sealed, rental_id)
        if secrets is None:
            return PinVerdict.UNREADABLE
        return PinVerdict.RIGHT if pin_matches(secrets, pin) else PinVerdict.WRONG

    def _unsealed(self, sealed: bytes, rental_id: bytes) -> Secrets | None:
        try:
            return unseal(
                sealed,
                self._key,
                fleet_id=self._fleet_id,
                vehicle_id=self._vehicle_id,
                rental_id=rental_id,
            )
        except (SealError, DecodeError):
            return None
