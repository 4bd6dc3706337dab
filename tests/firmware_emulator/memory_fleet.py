"""A fleet in memory: broker and backend of emulated cars, without a socket.

It stands at the uplink's link port and does what a bridge must: verify, store, sign
receipts, sign commands. Cars talk to it through their real uplink.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from gateway.uplink.link import Link, Message
from protocol.codes import Code, FrameClass, FrameType, LockDefault, Suite
from protocol.command import ANY_VERSION, COMMANDS, OPCODE_OF, Command, Reserve
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
from protocol.topic import parse_topic, topic_of
from transport.errors import LinkError, LinkFailure

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
CREDIT = 64
RESULT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message of the broker to a car."""

    topic: str
    payload: bytes
    retain: bool = False

    def done(self) -> None:
        pass


class MemoryLink:
    """One connection of one car."""

    def __init__(self, take: Callable[[str, bytes], None]) -> None:
        self._take = take
        self._inbox = asyncio.Queue[Delivery | None]()
        self._lost = False

    async def publish(self, topic: str, payload: bytes) -> None:
        await asyncio.sleep(0.005)
        if self._lost:
            raise LinkError("the link was cut", failure=LinkFailure.LOST)
        self._take(topic, payload)

    async def subscribe(self, *topic_filters: str) -> None:
        assert topic_filters

    async def messages(self) -> AsyncIterator[Message]:
        while (delivery := await self._inbox.get()) is not None:
            yield delivery
        raise LinkError("the link was cut", failure=LinkFailure.LOST)

    def deliver(self, delivery: Delivery) -> None:
        if not self._lost:
            self._inbox.put_nowait(delivery)

    def lose(self) -> None:
        self._lost = True
        self._inbox.put_nowait(None)


@dataclass(slots=True)
class Account:
    """What the fleet knows of one car."""

    record: VehicleRecord
    hello: Hello | None = None
    hello_header: Header | None = None
    frames: dict[int, bytes] = field(default_factory=dict)
    bodies: dict[int, EventBody | Result] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=list)
    results: dict[bytes, Result] = field(default_factory=dict)
    telemetry: int = 0
    farewells: int = 0
    places: dict[int, EventPlace] = field(default_factory=dict)
    link: MemoryLink | None = None
    is_cut: bool = False
    seq: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    hellos: int = 0

    @property
    def upto(self) -> int:
        return next(n for n in itertools.count(1) if n not in self.frames) - 1

    def of_kind(self, kind: type[EventBody]) -> list[EventBody]:
        bodies = [self.bodies[seq] for seq in sorted(self.bodies)]
        return [body for body in bodies if isinstance(body, kind)]


class MemoryFleet:
    """Broker and backend in one."""

    def __init__(self, directory: FleetDirectory) -> None:
        self.directory = directory
        self.fleet_id = directory.fleet.fleet_id
        self.command_key = self._key(FleetPart.COMMAND_KEY)
        self.receipt_key = self._key(FleetPart.RECEIPT_KEY)
        self.accounts: dict[VehicleId, Account] = {}
        self.withholds_receipts = False
        self._changed = asyncio.Event()

    @classmethod
    def create(cls, path: Path) -> "MemoryFleet":
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
        account = self.accounts[vehicle_id]
        account.is_cut = True
        if account.link is not None:
            account.link.lose()

    def restore(self, vehicle_id: VehicleId) -> None:
        self.accounts[vehicle_id].is_cut = False

    # --- the backend ------------------------------------------------------------------

    def _take(self, topic: str, payload: bytes) -> None:
        route = parse_topic(topic)
        frame = parse_frame(payload)
        assert frame.header.vehicle_id == route.vehicle_id
        account = self.accounts[route.vehicle_id]
        verify_frame(frame, fleet_id=self.fleet_id, key=account.record.signing_key)
        body = parse_content(frame).body
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
        assert known == frame.data, "a fork"  # I-27
        link = parse_content(frame).link
        assert link is not None
        before = account.frames.get(seq - 1)
        if seq == 1 or before is not None:
            expected = GENESIS if before is None else entry_hash(before)
            assert link.prev_hash == expected
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
        """Sign and send a command, and return its signed outcome."""
        account = self.accounts[vehicle_id]
        opcode = OPCODE_OF[type(command)]
        rule = COMMANDS[opcode]
        number = next(account.seq)
        msg_id = b"order".ljust(8, b"\0") + number.to_bytes(8, "big")
        self._send(
            account,
            FrameClass.CMD,
            opcode,
            rule.layout.build(command),
            key=self.command_key,
            msg_id=msg_id,
            lane=rule.lane,
            seq=number,
            ttl_ms=rule.ttl_limit_ms // 2,
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
    ) -> Result:
        account = self.accounts[vehicle_id]
        secrets = make_secrets(pin, fuel_card_pin, salt=bytes(16))
        return await self.order(
            vehicle_id,
            Reserve(
                rental_id=rental_id,
                expected_version=ANY_VERSION,
                reserved_until_ms=self._car_ms(account) + 15 * 60_000,
                lock_default=lock_default,
                language=b"en",
                cards=(card_digest(rental_id, card_uid),),
                sealed=seal(
                    secrets,
                    account.record.sealing_key,
                    fleet_id=self.fleet_id,
                    vehicle_id=vehicle_id,
                    rental_id=rental_id,
                ),
            ),
        )

    async def until(
        self, condition: Callable[[], bool], *, timeout_s: float = RESULT_TIMEOUT_S
    ) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _car_ms(self, account: Account) -> int:
        """The car's boot clock: exactly, since this fleet shares its loop."""
        assert account.hello_header is not None
        return self.clock_of(account.record.vehicle_id)

    clock_of: Callable[[VehicleId], int]
    """Set by the test: the boot clock of a car."""

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
    ) -> None:
        if account.link is None or account.hello_header is None:
            return
        vehicle_id = account.record.vehicle_id
        header = Header(
            suite=Suite.ED25519,
            frame_class=frame_class,
            flags=0,
            type=frame_type,
            schema=1,
            lane=lane,
            vehicle_id=vehicle_id,
            key_id=key.key_id,
            session_id=account.hello_header.session_id,
            seq=seq,
            mono_ms=self._car_ms(account) + ttl_ms,
            wall_ms=round(NOW.timestamp() * 1_000),
            msg_id=msg_id,
        )
        frame = sign_frame(header, payload, fleet_id=self.fleet_id, key=key)
        account.link.deliver(Delivery(topic_of(vehicle_id, frame_class), frame))


def must_be_ok(result: Result) -> None:
    assert result.code is Code.OK, result
