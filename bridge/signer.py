"""What is signed for cars: commands, SYNC, TRUST and receipts.

The key may lie in this process, which is the embedded default, or behind a socket
(`bridge.signing`); everything but the signature itself is the same.

The attacker considered: a caller inside the bridge that orders what this key may not
sign. The trust bundle, which offline roots signed and every car holds, says what the
key may: role, group, opcodes, lanes, longest life, dates. The same is checked here
first (`bridge.keyring`), so that a frame that every car would refuse is never made
(FF-TRU-21).

Rule 1: a sequence is durable before a frame with it leaves (protocol-design.md 1.1).
Sequences are reserved by chunks; what a crash leaves unused is skipped, which the cars
accept: they want rising, not gap-free numbers. SYNC draws from the same numbers.
Rule 2: commands and receipts have keys of their own; neither signs for the other.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol

from bridge.clock import life_ms
from bridge.errors import SettingsError, SigningError
from bridge.keyring import K, NamedKey, Use, choose
from bridge.ports import (
    Addressee,
    RandomBytes,
    SequenceStore,
    SignedCommand,
    SigningOrder,
)
from bridge.trust import Trust
from protocol.codes import FrameClass, FrameType, Lane
from protocol.command import COMMAND_SCHEMA, COMMANDS
from protocol.errors import EncodeError, ProtocolError
from protocol.frame import Header
from protocol.identity import ID_SIZE
from protocol.keys import SigningKey
from protocol.packed.drafted import drafted
from protocol.packed.frame import build_unsigned
from protocol.packed.receipt import build_receipt
from protocol.receipt import Receipt
from protocol.signing import sign_frame, to_be_signed
from protocol.sync import (
    SYNC_SCHEMA,
    SYNC_TTL_LIMIT_MS,
    SYNC_TYPE_OF,
    SyncBody,
    build_sync,
)

CHUNK: Final = 32
"""Sequences reserved at once: one fsync for 32 frames to one car in one lane."""

RECEIPT_SCHEMA: Final = 1
"""Revision of the receipt's payload."""

TRUST_SCHEMA: Final = 1
"""Revision of the TRUST frame's payload."""

_HEADER_OF: Final = drafted(Header)

Keys = Callable[[], Sequence[SigningKey]]
"""The keys of this replica now, the preferred one first."""

HeldTrust = Callable[[], Trust]
"""What is trusted now."""


def require_use(keys: Sequence[NamedKey], trust: Trust, *, receipts: bool) -> None:
    """Refuse at the start what could never sign.

    Raises:
        SettingsError: no key is in the trust bundle, or it is of the other kind.
    """
    name = "receipt" if receipts else "command"
    for key in keys:
        found = trust.newest.find(key.key_id)
        if key.key_id in trust.newest.revoked:
            raise SettingsError(
                f"{name} key {key.key_id.hex()} is revoked by trust bundle "
                f"{trust.newest.version}",
                advice="give the bridge a key that the newest bundle names",
            )
        if found is None:
            continue
        if found.role.commands is receipts:
            kind = "no receipts" if receipts else "no commands"
            raise SettingsError(
                f"key {key.key_id.hex()} has role {found.role.name.lower()}, which "
                f"signs {kind}",
                advice=f"name signer/{name}-1.key of the fleet directory",
            )
        return
    raise SettingsError(
        f"{name} key {keys[-1].key_id.hex()} is not in trust bundle "
        f"{trust.newest.version}",
        advice="use key and bundle of the same fleet directory",
    )


@dataclass(slots=True)
class _Run:
    """Sequences that are reserved and not used yet."""

    next: int = 0
    end: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Seal(Protocol[K]):
    """Puts signatures under frames."""

    def current_keys(self) -> Sequence[K]:
        """Return the keys that sign now, the preferred one first.

        Raises:
            NoSignerError: nobody signs now.
        """

    async def sign(
        self,
        header: Header,
        payload: bytes,
        *,
        key: K,
        car_now_ms: int,
        consent: bytes = b"",
    ) -> bytes:
        """Return a signed frame.

        Args:
            header: of the frame.
            payload: what it says.
            key: whose signature is wanted.
            car_now_ms: estimated boot clock of the car.
            consent: the signed word of a second person; empty for none.

        Raises:
            SigningError: it is not signed.
            NoSignerError: nobody signs now.
        """


class OwnSeal:
    """Signs with keys of this process."""

    def __init__(self, keys: Keys, *, fleet_id: bytes) -> None:
        self.current_keys = keys
        """The keys that sign now, the preferred one first."""
        self._fleet_id = fleet_id

    async def sign(
        self,
        header: Header,
        payload: bytes,
        *,
        key: SigningKey,
        car_now_ms: int,
        consent: bytes = b"",
    ) -> bytes:
        """Return a signed frame."""
        del car_now_ms, consent  # whoever has the key believes itself
        try:
            return sign_frame(header, payload, fleet_id=self._fleet_id, key=key)
        except (EncodeError, ProtocolError) as error:
            raise SigningError(f"frame cannot be built: {error}") from error


class FrameSigner(Generic[K]):
    """Signs commands, SYNC and TRUST with this replica's command key."""

    def __init__(
        self,
        seal: Seal[K],
        trust: HeldTrust,
        *,
        sequences: SequenceStore,
        random_bytes: RandomBytes,
    ) -> None:
        self._seal = seal
        self._trust = trust
        self._sequences = sequences
        self._random_bytes = random_bytes
        self._runs: dict[tuple[bytes, bytes, Lane], _Run] = {}

    async def sign(self, order: SigningOrder) -> SignedCommand:
        """Sign a command, with the next sequence stored before this returns."""
        rule = COMMANDS[order.opcode]
        key, grant = choose(
            self._seal.current_keys(),
            self._trust(),
            _use(order.to, order.opcode, rule.lane),
        )
        ttl_ms = life_ms(min(rule.ttl_limit_ms, grant.max_ttl_ms))
        if ttl_ms <= 0:
            raise SigningError(f"this signer's commands may live {grant.max_ttl_ms} ms")
        seq = await self._next(key, order.to.session_id, rule.lane)
        not_after_ms = order.to.car_now_ms + ttl_ms
        header = self._header(
            key,
            order.to,
            FrameClass.CMD,
            order.opcode,
            COMMAND_SCHEMA,
            lane=rule.lane,
            seq=seq,
            mono_ms=not_after_ms,
            msg_id=order.msg_id,
        )
        data = await self._seal.sign(
            header,
            order.payload,
            key=key,
            car_now_ms=order.to.car_now_ms,
            consent=order.consent,
        )
        return SignedCommand(data, key.key_id, rule.lane, seq, not_after_ms)

    async def synchronise(
        self, to: Addressee, body: SyncBody, *, consent: bytes = b""
    ) -> bytes:
        """Return a signed SYNC frame."""
        sync_type = SYNC_TYPE_OF[type(body)]
        key, grant = choose(
            self._seal.current_keys(), self._trust(), _use(to, sync_type, Lane.TRUST)
        )
        ttl_ms = life_ms(min(SYNC_TTL_LIMIT_MS, grant.max_ttl_ms))
        if ttl_ms <= 0:
            raise SigningError(f"this signer's frames may live {grant.max_ttl_ms} ms")
        seq = await self._next(key, to.session_id, Lane.TRUST)
        header = self._header(
            key,
            to,
            FrameClass.SYNC,
            sync_type,
            SYNC_SCHEMA,
            lane=Lane.TRUST,
            seq=seq,
            mono_ms=to.car_now_ms + ttl_ms,
            msg_id=self._random_bytes(ID_SIZE),
        )
        return await self._seal.sign(
            header,
            build_sync(body),
            key=key,
            car_now_ms=to.car_now_ms,
            consent=consent,
        )

    async def carry(self, to: Addressee) -> bytes:
        """Return a TRUST frame with the newest bundle.

        The frame is only its carrier: any key of the car's own bundle may sign it that
        that bundle has not revoked, whatever the newest one says (FF-TRU-22).
        """
        trust = self._trust()
        known = trust.of_car(to.bundle_version)
        for key in self._seal.current_keys():
            if known.find(key.key_id) is not None and key.key_id not in known.revoked:
                header = self._header(
                    key,
                    to,
                    FrameClass.TRUST,
                    FrameType.TRUST,
                    TRUST_SCHEMA,
                    lane=Lane.TRUST,
                    # Idempotent by the bundle's version; the number is a label.
                    seq=trust.newest.version,
                    mono_ms=to.car_now_ms,
                    msg_id=self._random_bytes(ID_SIZE),
                )
                return await self._seal.sign(
                    header, trust.data, key=key, car_now_ms=to.car_now_ms
                )
        raise SigningError(
            f"no key of this bridge is in trust bundle {known.version}, which the car "
            "has",
            advice="send the bundle through a bridge whose key the car knows",
        )

    def _header(
        self,
        key: K,
        to: Addressee,
        frame_class: FrameClass,
        number: int,
        schema: int,
        *,
        lane: Lane,
        seq: int,
        mono_ms: int,
        msg_id: bytes,
    ) -> Header:
        return Header(
            suite=key.suite,
            frame_class=frame_class,
            flags=0,
            type=number,
            schema=schema,
            lane=lane,
            vehicle_id=to.vehicle_id,
            key_id=key.key_id,
            session_id=to.session_id,
            seq=seq,
            mono_ms=mono_ms,
            wall_ms=to.wall_ms,
            msg_id=msg_id,
        )

    async def _next(self, key: K, session_id: bytes, lane: Lane) -> int:
        name = (key.key_id, session_id, lane)
        if name not in self._runs and len(self._runs) > _RUNS_LIMIT:
            # Sessions die; what is forgotten here is skipped, not used again.
            self._runs.clear()
        run = self._runs.setdefault(name, _Run())
        # One lock for each run: a car waits for no other car's disk write.
        async with run.lock:
            if run.next == run.end:
                run.next = await self._sequences.reserve_sequences(
                    key.key_id, session_id, lane, CHUNK
                )
                run.end = run.next + CHUNK
            run.next += 1
            return run.next - 1


def _use(to: Addressee, opcode: int | None, lane: Lane) -> Use:
    return Use(opcode, lane, to.group, to.bundle_version, to.wall_ms)


_RUNS_LIMIT: Final = 100_000
"""Sessions and lanes remembered: 20 MB."""


class InProcessReceiptSigner:
    """Signs receipts with this replica's receipt key."""

    def __init__(
        self,
        keys: Keys,
        trust: HeldTrust,
        *,
        fleet_id: bytes,
        random_bytes: RandomBytes,
    ) -> None:
        self._keys = keys
        self._trust = trust
        self._fleet_id = fleet_id
        self._random_bytes = random_bytes

    def sign(self, receipt: Receipt, to: Addressee) -> bytes:
        """Return the frame.

        A receipt is idempotent and only frees what matches, so its sequence need not be
        stored; the wall clock gives one that rises.
        """
        key, _grant = choose(self._keys(), self._trust(), _use(to, None, Lane.TRUST))
        header = _HEADER_OF(
            suite=key.suite,
            frame_class=FrameClass.RECEIPT,
            flags=0,
            type=FrameType.RECEIPT,
            schema=RECEIPT_SCHEMA,
            lane=Lane.TRUST,
            vehicle_id=to.vehicle_id,
            key_id=key.key_id,
            session_id=to.session_id,
            seq=to.wall_ms,
            mono_ms=to.car_now_ms,
            wall_ms=to.wall_ms,
            msg_id=self._random_bytes(ID_SIZE),
        )
        unsigned = build_unsigned(header, build_receipt(receipt))
        message = to_be_signed(FrameClass.RECEIPT, self._fleet_id, unsigned)
        return unsigned + key.sign(message)
