"""A fleet in memory: broker and backend of emulated cars, without a socket.

It stands at the uplink's link port and does what a bridge must: verify, keep, sign
receipts, sign commands, bring configurations. Cars talk to it through their real
uplink, so with `firmware_emulator.virtual_time` a day takes seconds. It is no bridge:
what it is sent wrongly is a `ForeignFrameError` of whoever sent it, and it keeps
nothing when it ends.
"""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from firmware_emulator.errors import DemandError
from firmware_emulator.frames_seen import FrameNote, note_of
from gateway.uplink.link import Link, Message
from protocol.codes import ConfigKind, FrameClass, FrameType, LockDefault, Suite
from protocol.command import (
    ANY_VERSION,
    COMMAND_SCHEMA,
    COMMANDS,
    OPCODE_OF,
    Command,
    Reserve,
    build_command,
)
from protocol.content import parse_content
from protocol.death import Death
from protocol.enrolment import VehicleRecord
from protocol.entry import GENESIS, entry_hash
from protocol.event import EventBody
from protocol.fleet import FleetPart
from protocol.frame import Frame, Header, parse_frame
from protocol.hello import Hello
from protocol.identity import VehicleId, card_digest
from protocol.keyfile import parse_signing_key
from protocol.keys import SigningKey
from protocol.place import EventPlace
from protocol.receipt import RECEIPT, Receipt
from protocol.result import Result
from protocol.sealing import make_secrets, seal
from protocol.signing import sign_frame, verify_frame
from protocol.sync import (
    CHUNK_LIMIT,
    SYNC_TYPE_OF,
    ConfigChunk,
    ConfigOffer,
    SyncBody,
    build_sync,
)
from protocol.topic import parse_topic, topic_of
from transport.errors import LinkError, LinkFailure

NOW: Final = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
"""When this fleet lives; its certificates begin then."""

CREDIT: Final = 64
"""Entries that a car may send before the next receipt."""

RESULT_TIMEOUT_S: Final = 60.0
"""How long a signed answer may take."""

RESERVED_MS: Final = 15 * 60_000
"""N1."""

AIR_S: Final = 0.005
"""From the car to the fleet; assumed, a mobile network needs more."""

SYNC_TTL_MS: Final = 15_000
"""Life of a chunk of a configuration."""


class ForeignFrameError(DemandError):
    """A car sent what no car of this fleet may send; nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message of the broker to a car."""

    topic: str
    """Where it was published."""
    payload: bytes
    """All of it."""
    retain: bool = False
    """Whether it waited for the car."""

    def done(self) -> None:
        """Take note that the car has it: nobody waits for that here."""


class MemoryLink:
    """One connection of one car; implements `gateway.uplink.link.Link`."""

    def __init__(self, take: Callable[[str, bytes], None]) -> None:
        """Open it.

        Args:
            take: gets every message with its topic.
        """
        self._take = take
        self._inbox = asyncio.Queue[Delivery | None]()
        self._lost = False
        self._newest: asyncio.Event | None = None
        """Set when the newest message has arrived, or never will."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a message; it arrives behind those sent before, as on one connection.

        Raises:
            LinkError: the way was cut.
        """
        before, arrived = self._newest, asyncio.Event()
        self._newest = arrived
        try:
            await asyncio.sleep(AIR_S)
            if before is not None:
                await before.wait()
            if self._lost:
                raise LinkError("the link was cut", failure=LinkFailure.LOST)
            self._take(topic, payload)
        finally:
            arrived.set()

    async def subscribe(self, *topic_filters: str) -> None:
        """Do nothing: everything for a car goes to it."""

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what is sent to the car.

        Raises:
            LinkError: the way was cut.
        """
        while (delivery := await self._inbox.get()) is not None:
            yield delivery
        raise LinkError("the link was cut", failure=LinkFailure.LOST)

    def deliver(self, delivery: Delivery) -> None:
        """Bring a message to the car; lost if the way was cut."""
        if not self._lost:
            self._inbox.put_nowait(delivery)

    def lose(self) -> None:
        """Cut the way for good."""
        self._lost = True
        self._inbox.put_nowait(None)


@dataclass(slots=True)
class Account:
    """What the fleet knows of one car."""

    record: VehicleRecord
    """Its keys."""
    hello: Hello | None = None
    """The newest."""
    hello_header: Header | None = None
    """Its header."""
    frames: dict[int, bytes] = field(default_factory=dict)
    """The ledger, by place."""
    bodies: dict[int, EventBody | Result] = field(default_factory=dict)
    """The same, read."""
    arrivals: list[int] = field(default_factory=list)
    """Places in the order in which they came, repetitions too."""
    results: dict[bytes, Result] = field(default_factory=dict)
    """Answers, by the id of the command."""
    telemetry: int = 0
    """Frames of telemetry."""
    farewells: int = 0
    """Signed farewells."""
    places: dict[int, EventPlace] = field(default_factory=dict)
    """Where entries happened, by their place in the ledger."""
    link: MemoryLink | None = None
    """The connection, None without."""
    is_cut: bool = False
    """Whether no connection can be made."""
    seq: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    """Numbers for commands."""
    hellos: int = 0
    """How many came."""

    @property
    def upto(self) -> int:
        """The last place before the first gap."""
        return next(n for n in itertools.count(1) if n not in self.frames) - 1

    def of_kind(self, kind: type[EventBody]) -> list[EventBody]:
        """Return the events of a kind, in the ledger's order."""
        bodies = [self.bodies[seq] for seq in sorted(self.bodies)]
        return [body for body in bodies if isinstance(body, kind)]


class MemoryFleet:
    """Broker and backend in one."""

    def __init__(self, directory: FleetDirectory) -> None:
        """Take the keys of a fleet directory.

        Raises:
            OSError: they cannot be read.
        """
        self.directory = directory
        self.fleet_id = directory.fleet.fleet_id
        self.command_key = self._key(FleetPart.COMMAND_KEY)
        self.receipt_key = self._key(FleetPart.RECEIPT_KEY)
        self.accounts: dict[VehicleId, Account] = {}
        self.withholds_receipts = False
        """Whether cars get no receipts; may be set at any time."""
        self.observe: Callable[[FrameNote], None] = lambda _note: None
        """Told of every frame in both directions."""
        self._changed = asyncio.Event()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a fleet's PKI in an empty or absent directory."""
        return cls(FleetDirectory.create(path, name="test", now=NOW))

    def _key(self, part: FleetPart) -> SigningKey:
        data = (self.directory.path / part).read_bytes()
        return parse_signing_key(data, name=part)

    def issue(self) -> tuple[VehicleId, Path]:
        """Enrol a car and return what is copied into it."""
        (issued,) = issue_vehicles(self.directory, [random_vehicle_id()], now=NOW)
        record = self.directory.vehicle_record(issued.vehicle_id)
        self.accounts[issued.vehicle_id] = Account(record)
        return issued.vehicle_id, issued.directory

    # --- the broker -------------------------------------------------------------------

    def links(
        self, vehicle_id: VehicleId
    ) -> Callable[[bytes], AbstractAsyncContextManager[Link]]:
        """Return what makes a car's connections."""

        @asynccontextmanager
        async def connect(_will: bytes) -> AsyncIterator[Link]:
            account = self.accounts[vehicle_id]
            if account.is_cut:
                raise LinkError("no network", failure=LinkFailure.UNREACHABLE)
            link = account.link = MemoryLink(self._take)
            try:
                yield link
            finally:
                account.link = None

        return connect

    def cut(self, vehicle_id: VehicleId) -> None:
        """Reset a car's connection and let none come up."""
        account = self.accounts[vehicle_id]
        account.is_cut = True
        if account.link is not None:
            account.link.lose()

    def restore(self, vehicle_id: VehicleId) -> None:
        """Let a car connect again."""
        self.accounts[vehicle_id].is_cut = False

    # --- the backend ------------------------------------------------------------------

    def _take(self, topic: str, payload: bytes) -> None:
        route = parse_topic(topic)
        frame = parse_frame(payload)
        if frame.header.vehicle_id != route.vehicle_id:
            raise ForeignFrameError(f"a frame of another car came on {topic}")
        account = self.accounts[route.vehicle_id]
        verify_frame(frame, fleet_id=self.fleet_id, key=account.record.signing_key)
        body = parse_content(frame).body
        self.observe(note_of(payload, is_from_car=True))
        if isinstance(body, Hello):
            account.hello, account.hello_header = body, frame.header
            account.hellos += 1
            self._receipt(account)
        elif isinstance(body, EventPlace):
            account.places[body.seq] = body
        elif frame.header.frame_class is FrameClass.TELEM:
            account.telemetry += 1
        elif isinstance(body, Death):
            account.farewells += 1
        elif frame.header.seq > 0:
            self._store(account, frame, body)  # type: ignore[arg-type] # an entry's body
        if isinstance(body, Result):
            account.results[body.request_id] = body
        self._changed.set()

    def _store(self, account: Account, frame: Frame, body: EventBody | Result) -> None:
        seq = frame.header.seq
        known = account.frames.setdefault(seq, frame.data)
        if known != frame.data:
            raise ForeignFrameError(f"entry {seq} came with two contents")  # I-27
        link = parse_content(frame).link
        before = account.frames.get(seq - 1)
        if seq == 1 or before is not None:
            expected = GENESIS if before is None else entry_hash(before)
            if link is None or link.prev_hash != expected:
                raise ForeignFrameError(f"entry {seq} does not follow {seq - 1}")
        account.bodies[seq] = body
        account.arrivals.append(seq)
        self._receipt(account)

    def _receipt(self, account: Account) -> None:
        if self.withholds_receipts or account.hello is None:
            return
        upto = account.upto
        receipt = Receipt(
            ledger_id=account.hello.ledger_id,
            upto=upto,
            head_hash=entry_hash(account.frames[upto]) if upto else GENESIS,
            credit=CREDIT,
            gaps=(),
            rejects=(),
        )
        self._send(
            account,
            FrameClass.RECEIPT,
            FrameType.RECEIPT,
            RECEIPT.build(receipt),
            key=self.receipt_key,
            msg_id=b"receipt".ljust(16, b"\0"),
        )

    async def order(self, vehicle_id: VehicleId, command: Command) -> Result:
        """Sign and send a command, and return its signed outcome.

        Raises:
            TimeoutError: no answer came in `RESULT_TIMEOUT_S`.
        """
        account = self.accounts[vehicle_id]
        opcode = OPCODE_OF[type(command)]
        rule = COMMANDS[opcode]
        number = next(account.seq)
        msg_id = b"order".ljust(8, b"\0") + number.to_bytes(8, "big")
        self._send(
            account,
            FrameClass.CMD,
            opcode,
            build_command(command),
            key=self.command_key,
            msg_id=msg_id,
            lane=rule.lane,
            seq=number,
            ttl_ms=rule.ttl_limit_ms // 2,
            schema=COMMAND_SCHEMA,
        )
        await self.until(lambda: msg_id in account.results)
        return account.results[msg_id]

    async def reserve(
        self,
        vehicle_id: VehicleId,
        *,
        rental_id: bytes,
        card_uid: bytes,
        pin: str,
        fuel_card_pin: str = "9876",
        lock_default: LockDefault = LockDefault.END,
        language: str = "en",
        reserved_ms: int = RESERVED_MS,
    ) -> Result:
        """Reserve a car for a card and a PIN, and return its signed answer."""
        return await self.order(
            vehicle_id,
            Reserve(
                rental_id=rental_id,
                expected_version=ANY_VERSION,
                reserved_until_ms=self.clock_of(vehicle_id) + reserved_ms,
                lock_default=lock_default,
                language=language.encode("ascii"),
                cards=(card_digest(rental_id, card_uid),),
                sealed=self.sealed_for(
                    vehicle_id,
                    rental_id=rental_id,
                    pin=pin,
                    fuel_card_pin=fuel_card_pin,
                ),
            ),
        )

    def sealed_for(
        self, vehicle_id: VehicleId, *, rental_id: bytes, pin: str, fuel_card_pin: str
    ) -> bytes:
        """Return a rental's secrets, sealed to a car (H6)."""
        return seal(
            make_secrets(pin, fuel_card_pin, salt=bytes(16)),
            self.accounts[vehicle_id].record.sealing_key,
            fleet_id=self.fleet_id,
            vehicle_id=vehicle_id,
            rental_id=rental_id,
        )

    def configure(
        self, vehicle_id: VehicleId, kind: ConfigKind, version: int, body: bytes
    ) -> None:
        """Announce a configuration and send all of it; the car says when it counts."""
        digest = hashlib.sha256(body).digest()
        self._synchronise(vehicle_id, ConfigOffer(kind, version, len(body), digest))
        for offset in range(0, len(body), CHUNK_LIMIT):
            data = body[offset : offset + CHUNK_LIMIT]
            self._synchronise(vehicle_id, ConfigChunk(kind, version, offset, data))

    def _synchronise(self, vehicle_id: VehicleId, body: SyncBody) -> None:
        account = self.accounts[vehicle_id]
        number = next(account.seq)
        self._send(
            account,
            FrameClass.SYNC,
            SYNC_TYPE_OF[type(body)],
            build_sync(body),
            key=self.command_key,
            msg_id=b"sync".ljust(8, b"\0") + number.to_bytes(8, "big"),
            seq=number,
            ttl_ms=SYNC_TTL_MS,
        )

    async def until(
        self, condition: Callable[[], bool], *, timeout_s: float = RESULT_TIMEOUT_S
    ) -> None:
        """Return as soon as a condition on what came holds.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    clock_of: Callable[[VehicleId], int]
    """Set by whoever makes the cars: a car's boot clock, since this fleet shares its
    loop."""

    def _send(
        self,
        account: Account,
        frame_class: FrameClass,
        frame_type: int,
        payload: bytes,
        *,
        key: SigningKey,
        msg_id: bytes,
        lane: int = 0,
        seq: int = 0,
        ttl_ms: int = 0,
        schema: int = 1,
    ) -> None:
        if account.link is None or account.hello_header is None:
            return
        vehicle_id = account.record.vehicle_id
        header = Header(
            suite=Suite.ED25519,
            frame_class=frame_class,
            flags=0,
            type=frame_type,
            schema=schema,
            lane=lane,
            vehicle_id=vehicle_id,
            key_id=key.key_id,
            session_id=account.hello_header.session_id,
            seq=seq,
            mono_ms=self.clock_of(vehicle_id) + ttl_ms,
            wall_ms=round(NOW.timestamp() * 1_000),
            msg_id=msg_id,
        )
        frame = sign_frame(header, payload, fleet_id=self.fleet_id, key=key)
        self.observe(note_of(frame, is_from_car=False))
        account.link.deliver(Delivery(topic_of(vehicle_id, frame_class), frame))
