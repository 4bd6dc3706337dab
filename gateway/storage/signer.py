"""Who signs a car's entries, for whoever reads them back from a disk."""

from dataclasses import dataclass

from protocol.errors import ProtocolError
from protocol.frame import Frame
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.signing import verify_frame


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs this car's entries."""

    vehicle_id: VehicleId
    """This car."""
    fleet_id: bytes
    """16 bytes."""
    keys: tuple[VerifyKey, ...]
    """The car's public keys: the present one and, where known, those before it."""

    def has_signed(self, frame: Frame) -> bool:
        """Return whether one of the keys signed the frame."""
        if frame.header.vehicle_id != self.vehicle_id:
            return False
        for key in self.keys:
            if key.key_id == frame.header.key_id:
                try:
                    verify_frame(frame, fleet_id=self.fleet_id, key=key)
                except ProtocolError:
                    return False
                return True
        return False

    def knows(self, key_id: bytes) -> bool:
        """Return whether the key is one of those."""
        return any(key.key_id == key_id for key in self.keys)
