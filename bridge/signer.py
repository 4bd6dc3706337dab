"""The signer in this process: the port's implementation for the embedded default.

The attacker considered: a caller inside the bridge that orders what this key may not
sign. The trust bundle, which offline roots signed and every car holds, says what the
key may: role, opcodes, lanes, longest life, dates. The same is checked here first, so
that a command that every car would refuse is never made.

Rule 1: a sequence is durable before a frame with it leaves (protocol-design.md 1.1).
Sequences are reserved by chunks; what a crash leaves unused is skipped, which the cars
accept: they want rising, not gap-free numbers.
Rule 2: commands and receipts have keys of their own; neither signs for the other.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from bridge.clock import life_ms
from bridge.errors import SettingsError, SigningError
from bridge.ports import RandomBytes, SequenceStore, SignedCommand, SigningOrder
from protocol.codes import FrameClass, FrameType, Lane, Role, Suite
from protocol.command import COMMAND_SCHEMA, COMMANDS
from protocol.errors import EncodeError, ProtocolError
from protocol.frame import Header
from protocol.identity import ID_SIZE, VehicleId
from protocol.keys import SigningKey
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import sign_frame
from protocol.trust import BUNDLE, SIGNED_BUNDLE, TrustBundle, TrustedKey

CHUNK: Final = 32
"""Sequences reserved at once: one fsync for 32 commands to one car in one lane."""

RECEIPT_SCHEMA: Final = 1
"""Revision of the receipt's payload."""


def read_bundle(data: bytes, *, fleet_id: bytes) -> TrustBundle:
    """Read the signer's own copy of the trust bundle.

    Its root signatures are the cars' business: whoever can change this file can use the
    key beside it anyway.

    Raises:
        SettingsError: not a bundle, or of another fleet.
    """
    try:
        bundle = BUNDLE.parse(SIGNED_BUNDLE.parse(data).body)
    except ProtocolError as error:
        raise SettingsError(
            f"trust bundle cannot be read: {error}",
            advice="name the file trust/bundle-1.bin of the fleet directory",
        ) from error
    if bundle.fleet_id != fleet_id:
        raise SettingsError(
            "trust bundle belongs to another fleet",
            advice="name the bundle of the same fleet directory",
        )
    return bundle


def find_grant(key: SigningKey, bundle: TrustBundle, *, name: str) -> TrustedKey:
    """Return what the bundle allows a key.

    Raises:
        SettingsError: the bundle does not know the key, or revoked it.
    """
    if key.key_id in bundle.revoked:
        raise SettingsError(
            f"{name} key {key.key_id.hex()} is revoked by trust bundle "
            f"{bundle.version}",
            advice="give the bridge a key that the newest bundle names",
        )
    for trusted in bundle.keys:
        if trusted.public_key == key.verify_key.raw:
            return trusted
    raise SettingsError(
        f"{name} key {key.key_id.hex()} is not in trust bundle {bundle.version}",
        advice="use key and bundle of the same fleet directory",
    )


@dataclass(slots=True)
class _Run:
    """Sequences that are reserved and not used yet."""

    next: int = 0
    end: int = 0


class InProcessSigner:
    """Signs commands with one key of the trust bundle."""

    def __init__(
        self,
        key: SigningKey,
        grant: TrustedKey,
        *,
        fleet_id: bytes,
        sequences: SequenceStore,
    ) -> None:
        if grant.role in {Role.RECEIPT, Role.MONITOR}:
            raise SettingsError(
                f"key {key.key_id.hex()} has role {grant.role.name.lower()}, which "
                "signs no commands",
                advice="name signer/command-1.key of the fleet directory",
            )
        self._key = key
        self._grant = grant
        self._fleet_id = fleet_id
        self._sequences = sequences
        self._runs: dict[tuple[bytes, Lane], _Run] = {}
        self._lock = asyncio.Lock()

    async def sign(self, order: SigningOrder) -> SignedCommand:
        """Sign, with the next sequence stored before this returns."""
        rule = COMMANDS[order.opcode]
        ttl_ms = life_ms(min(rule.ttl_limit_ms, self._grant.max_ttl_ms))
        self._check(order, rule.lane, ttl_ms)
        seq = await self._next(order.session_id, rule.lane)
        not_after_ms = order.car_now_ms + ttl_ms
        header = Header(
            suite=Suite.ED25519,
            frame_class=FrameClass.CMD,
            flags=0,
            type=order.opcode,
            schema=COMMAND_SCHEMA,
            lane=rule.lane,
            vehicle_id=order.vehicle_id,
            key_id=self._key.key_id,
            session_id=order.session_id,
            seq=seq,
            mono_ms=not_after_ms,
            wall_ms=order.wall_ms,
            msg_id=order.msg_id,
        )
        try:
            data = sign_frame(
                header, order.payload, fleet_id=self._fleet_id, key=self._key
            )
        except (EncodeError, ProtocolError) as error:
            raise SigningError(f"command cannot be built: {error}") from error
        return SignedCommand(data, self._key.key_id, rule.lane, seq, not_after_ms)

    def _check(self, order: SigningOrder, lane: Lane, ttl_ms: int) -> None:
        grant = self._grant
        name = order.opcode.name.lower()
        if order.opcode not in grant.opcodes:
            raise SigningError(f"this signer may not sign {name}")
        if lane not in grant.lanes:
            raise SigningError(f"this signer may not use lane {lane.name.lower()}")
        if ttl_ms <= 0:
            raise SigningError(f"this signer's commands may live {grant.max_ttl_ms} ms")
        if not grant.not_before_ms <= order.wall_ms <= grant.not_after_ms:
            raise SigningError(
                "this signer's key is out of its dates",
                advice="check this machine's clock; else make a new trust bundle",
            )

    async def _next(self, session_id: bytes, lane: Lane) -> int:
        async with self._lock:
            if (session_id, lane) not in self._runs and len(self._runs) > _RUNS_LIMIT:
                # Sessions die; what is forgotten here is skipped, not used again.
                self._runs.clear()
            run = self._runs.setdefault((session_id, lane), _Run())
            if run.next == run.end:
                run.next = await self._sequences.reserve_sequences(
                    self._key.key_id, session_id, lane, CHUNK
                )
                run.end = run.next + CHUNK
            run.next += 1
            return run.next - 1


_RUNS_LIMIT: Final = 100_000
"""Sessions and lanes remembered: 20 MB."""


class InProcessReceiptSigner:
    """Signs receipts with the receipt key."""

    def __init__(
        self,
        key: SigningKey,
        grant: TrustedKey,
        *,
        fleet_id: bytes,
        random_bytes: RandomBytes,
    ) -> None:
        if grant.role is not Role.RECEIPT:
            raise SettingsError(
                f"key {key.key_id.hex()} has role {grant.role.name.lower()}, which "
                "signs no receipts",
                advice="name signer/receipt-1.key of the fleet directory",
            )
        self._key = key
        self._fleet_id = fleet_id
        self._random_bytes = random_bytes

    def sign(
        self,
        receipt: Receipt,
        *,
        vehicle_id: VehicleId,
        session_id: bytes,
        car_now_ms: int,
        wall_ms: int,
    ) -> bytes:
        """Return the frame.

        A receipt is idempotent and only frees what matches, so its sequence need not be
        stored; the wall clock gives one that rises.
        """
        header = Header(
            suite=Suite.ED25519,
            frame_class=FrameClass.RECEIPT,
            flags=0,
            type=FrameType.RECEIPT,
            schema=RECEIPT_SCHEMA,
            lane=Lane.TRUST,
            vehicle_id=vehicle_id,
            key_id=self._key.key_id,
            session_id=session_id,
            seq=wall_ms,
            mono_ms=car_now_ms,
            wall_ms=wall_ms,
            msg_id=self._random_bytes(ID_SIZE),
        )
        return sign_frame(
            header, RECEIPT.build(receipt), fleet_id=self._fleet_id, key=self._key
        )
