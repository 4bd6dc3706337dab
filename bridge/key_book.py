"""Which key of a vehicle was valid where: enrolled at first, rotated since.

A vehicle makes a new key itself and says so in its ledger; from the entry behind
KEY_ROTATED on it signs with the new one (FF-ENR-12). So a key belongs to a stretch of a
ledger: entries that are sent again long after are verified by the key that was valid at
their place (FF-ENR-15), and everything that has no place by the newest.

The attacker considered: who has an old key, from a stolen disk image or a scrapped
unit. That key proves nothing behind its rotation, and its use is an alarm (FF-ENR-16).
Also a vehicle that rotates to a key of another one: a signature would not say which of
them signed, so it is refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from bridge.registry import Registry
from protocol.codes import Code
from protocol.errors import AuthenticationError
from protocol.identity import VehicleId
from protocol.keys import VerifyKey


@dataclass(frozen=True, slots=True)
class Rotation:
    """One vehicle's change of its key, as its ledger says."""

    vehicle_id: VehicleId
    """Which vehicle."""
    ledger_id: bytes
    """8 bytes: where it said so."""
    seq: int
    """The entry's sequence: the last that the old key signs."""
    old_key: VerifyKey
    """Valid up to it."""
    new_key: VerifyKey
    """Valid behind it."""


@dataclass(frozen=True, slots=True)
class KeyBook:
    """Every rotation that is known; a value."""

    rotations: Mapping[VehicleId, tuple[Rotation, ...]] = field(default_factory=dict)
    """By vehicle, in the order in which they were stored."""
    owners: Mapping[bytes, VehicleId] = field(default_factory=dict)
    """Which vehicle has, or had, a key, by the id of every key that was rotated to."""

    def with_rotations(self, added: Iterable[Rotation]) -> Self:
        """Return the book with these; one that is known changes nothing."""
        rotations, owners = dict(self.rotations), dict(self.owners)
        for rotation in added:
            known = rotations.get(rotation.vehicle_id, ())
            if any(
                (r.ledger_id, r.seq) == (rotation.ledger_id, rotation.seq)
                for r in known
            ):
                continue
            rotations[rotation.vehicle_id] = (*known, rotation)
            owners[rotation.new_key.key_id] = rotation.vehicle_id
        return type(self)(rotations, owners)

    def newest(self, vehicle_id: VehicleId, enrolled: VerifyKey) -> VerifyKey:
        """Return the key that a vehicle signs with now.

        A record that was issued anew with a key of its own begins a new chain.
        """
        key = enrolled
        for rotation in self.rotations.get(vehicle_id, ()):
            if rotation.old_key.raw == key.raw:
                key = rotation.new_key
        return key

    def at(
        self, vehicle_id: VehicleId, enrolled: VerifyKey, ledger_id: bytes, seq: int
    ) -> VerifyKey:
        """Return the key that was valid at a place of a ledger."""
        here = sorted(
            (r for r in self.rotations.get(vehicle_id, ()) if r.ledger_id == ledger_id),
            key=lambda rotation: rotation.seq,
        )
        for rotation in here:
            if seq <= rotation.seq:
                return rotation.old_key
        return self.newest(vehicle_id, enrolled)

    def named(
        self, vehicle_id: VehicleId, enrolled: VerifyKey, key_id: bytes
    ) -> VerifyKey:
        """Return the key of a vehicle that a frame names, old ones included.

        Raises:
            AuthenticationError: UNKNOWN_KEY: the vehicle never had such a key.
        """
        if enrolled.key_id == key_id:
            return enrolled
        for rotation in self.rotations.get(vehicle_id, ()):
            for key in (rotation.new_key, rotation.old_key):
                if key.key_id == key_id:
                    return key
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"key {key_id.hex()} was never one of {vehicle_id}"
        )

    def require_own(self, rotation: Rotation, registry: Registry) -> None:
        """Refuse a new key that anybody has or had.

        Raises:
            AuthenticationError: it is enrolled for, or was rotated to by, a vehicle.
        """
        key_id = rotation.new_key.key_id
        known = self.rotations.get(rotation.vehicle_id, ())
        owner = registry.owners.get(key_id) or self.owners.get(key_id)
        if any(r.old_key.key_id == key_id for r in known):
            owner = rotation.vehicle_id
        if owner is not None:
            raise AuthenticationError(
                Code.BAD_PARAM,
                f"{rotation.vehicle_id} rotates to key {key_id.hex()}, which {owner} "
                "has or had",
            )


EMPTY: KeyBook = KeyBook()
"""No vehicle rotated its key."""
