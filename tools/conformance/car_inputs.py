"""What the kit needs to play the backend of one car."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.codes import Lane, Opcode, Role, SyncType
from protocol.command import COMMANDS
from protocol.identity import VehicleId
from protocol.keys import SigningKey, VerifyKey
from protocol.trust import SIGNED_BUNDLE, TrustBundle, TrustedKey, read_body

NEEDED: Final = frozenset({*map(int, Opcode), *map(int, SyncType)})
"""What a key may sign that the kit uses for everything that shall be accepted."""

LONGEST_MS: Final = max(rule.ttl_limit_ms for rule in COMMANDS.values())
"""The longest life of a command: a key that may sign for less is a limited one."""

WantedGrant = Callable[[TrustedKey], bool]
"""Chooses a key by what the bundle says of it."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, and what the bundle says of it."""

    key: SigningKey
    """Signs."""
    grant: TrustedKey | None
    """None for a key that the bundle does not name."""

    @property
    def key_id(self) -> bytes:
        """8 bytes."""
        return self.key.key_id


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that is given to a run against a car."""

    vehicle_id: VehicleId
    """Which car."""
    vehicle_key: VerifyKey
    """Its public signing key."""
    fleet_id: bytes
    """16 bytes."""
    bundle: TrustBundle
    """What the car trusts."""
    bundle_data: bytes
    """The same, signed."""
    signers: Sequence[Signer]
    """Every private key that was given."""
    now_ms: Callable[[], int]
    """UTC ms."""
    newer_bundle: bytes = b""
    """A signed successor; empty for none."""
    older_bundle: bytes = b""
    """A signed predecessor; empty for none."""
    answer_s: float = 10.0
    """How long an answer may take."""
    silence_s: float = 1.0
    """How much longer than a right frame's answer silence is watched for."""

    def commanders(self, group: int) -> list[Signer]:
        """Return the keys that may sign every command to a car of this group."""
        return [one for one in self.signers if self._is_commander(one, group)]

    def receipt_signers(self) -> list[Signer]:
        """Return the keys whose receipts count now."""
        return [
            one
            for one in self.signers
            if one.grant is not None
            and one.grant.role is Role.RECEIPT
            and self.is_current(one.grant)
            and one.key_id not in self.bundle.revoked
        ]

    def is_current(self, grant: TrustedKey) -> bool:
        """Return whether a key is within its dates, by this machine's clock."""
        return grant.not_before_ms <= self.now_ms() < grant.not_after_ms

    def _is_commander(self, one: Signer, group: int) -> bool:
        grant = one.grant
        return (
            grant is not None
            and grant.role.commands
            and grant.group in {0, group}
            and set(grant.opcodes) >= NEEDED
            and set(grant.lanes) == set(Lane)
            and grant.max_ttl_ms >= LONGEST_MS
            and self.is_current(grant)
            and one.key_id not in self.bundle.revoked
        )


def read_bundle(data: bytes, fleet_id: bytes) -> TrustBundle:
    """Read a signed bundle; who signed it is the car's to judge.

    Raises:
        ProtocolError: it is none, or another fleet's.
    """
    return read_body(SIGNED_BUNDLE.parse(data).body, fleet_id=fleet_id)
