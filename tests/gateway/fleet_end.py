"""The other end of the link: an air interface that can be cut, and a fleet behind it.

The fleet verifies each frame with the car's key before it believes it, keeps entries by
sequence and fails the test on a fork: one sequence with two contents (I-27).
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from gateway.core.ledger import LedgerHead
from gateway.ports import Clock
from protocol.codes import Code, FrameClass, FrameType, Lane, Role, Suite
from protocol.command import (
    COMMAND_SCHEMA,
    COMMANDS,
    OPCODE_OF,
    Command,
    build_command,
)
from protocol.content import parse_content
from protocol.entry import GENESIS, entry_hash, split_entry
from protocol.event import EventBody
from protocol.frame import Frame, Header, parse_frame
from protocol.hello import Hello
from protocol.identity import VehicleId
from protocol.keys import Ed25519SigningKey, SigningKey, VerifyKey
from protocol.place import EventPlace
from protocol.receipt import RECEIPT, Gap, Receipt, Reject
from protocol.result import Result
from protocol.rotation import verify_rotation
from protocol.signing import sign_frame, verify_frame
from protocol.sync import SYNC_TYPE_OF, SyncBody, build_sync
from protocol.topic import parse_topic, topic_of
from protocol.trust import (
    ALL_OPCODES,
    EVERY_GROUP,
    TrustBundle,
    TrustedKey,
    sign_bundle,
)
from protocol.vehicle_event import KeyRotated
from transport.errors import LinkError, LinkFailure, PublishRefusedError, TlsSetupError

FLEET_ID = bytes(range(16))
VEHICLE = VehicleId(bytes(range(16, 32)))
VEHICLE_KEY = Ed25519SigningKey.from_seed(b"vehicle signing key of the tests")
COMMAND_KEY = Ed25519SigningKey.from_seed(b"command signing key of the tests")
RECEIPT_KEY = Ed25519SigningKey.from_seed(b"receipt signing key of the tests")
ROOT_KEY = Ed25519SigningKey.from_seed(b"the trust root key for the tests")
STRANGER_KEY = Ed25519SigningKey.from_seed(b"a key that no trust bundle names")

BUNDLE = TrustBundle(
    fleet_id=FLEET_ID,
    version=1,
    issued_ms=0,
    expires_ms=4_000_000_000_000,
    threshold=1,
    roots=(ROOT_KEY.verify_key.raw,),
    suites=(Suite.ED25519,),
    keys=(
        TrustedKey(
            public_key=COMMAND_KEY.verify_key.raw,
            role=Role.RENTAL,
            group=EVERY_GROUP,
            opcodes=ALL_OPCODES,
            lanes=tuple(Lane),
            max_ttl_ms=60_000,
            not_before_ms=0,
            not_after_ms=4_000_000_000_000,
        ),
        TrustedKey(
            public_key=RECEIPT_KEY.verify_key.raw,
            role=Role.RECEIPT,
            group=EVERY_GROUP,
            opcodes=(),
            lanes=(),
            max_ttl_ms=0,
            not_before_ms=0,
            not_after_ms=4_000_000_000_000,
        ),
    ),
    revoked=(),
)


@dataclass(slots=True, eq=False)
class AirMessage:
    """A message to the car."""

    topic: str
    payload: bytes
    retain: bool = False
    is_done: bool = False

    def done(self) -> None:
        self.is_done = True


class Air:
    """The way between car and fleet; one link at a time."""

    def __init__(self) -> None:
        self.is_up = True
        self.is_deaf = False
        """The broker takes what the car publishes, and nobody hears it (L1)."""
        self.held: FrameClass | None = None
        """A class whose frames the broker takes and does not acknowledge."""
        self.flows = asyncio.Event()
        self.refused: frozenset[FrameClass] = frozenset()
        """Classes that the broker's access list forbids."""
        self.setup_error: TlsSetupError | None = None
        """What is wrong with the car's certificates."""
        self.attempts = 0
        self.up: list[tuple[FrameClass, bytes]] = []
        """Every frame that the car published, in order."""
        self.down: list[AirMessage] = []
        """Every message that reached the car."""
        self.wills: list[bytes] = []
        """What the broker published for lost links."""
        self.fleet: FleetEnd | None = None
        self.link: AirLink | None = None

    def links(self, will: bytes) -> "AirLink":
        """Make a link, as `gateway.uplink.link.LinkFactory` does."""
        if self.setup_error is not None:
            raise self.setup_error
        return AirLink(self, will)

    def cut(self) -> None:
        """Lose the link, and stay down; the broker publishes the will."""
        self.is_up = False
        self.lose()

    def lose(self) -> None:
        """Lose the link; the car may make another."""
        if self.link is not None:
            link, self.link = self.link, None
            link.lose()
            self.wills.append(link.will)
            if self.fleet is not None and not self.is_deaf:
                self.fleet.take(FrameClass.DEATH, link.will)

    def restore(self) -> None:
        """Let the next attempt succeed."""
        self.is_up = True

    def let_go(self) -> None:
        """Acknowledge what was held."""
        self.held = None
        self.flows.set()

    def deliver(
        self, frame_class: FrameClass, data: bytes, *, retain: bool = False
    ) -> AirMessage | None:
        """Hand the car a message; without a link it is lost, as sessions are clean."""
        if self.link is None:
            return None
        message = AirMessage(topic_of(VEHICLE, frame_class), data, retain)
        self.down.append(message)
        self.link.inbox.put_nowait(message)
        return message

    def frames(self, frame_class: FrameClass) -> list[bytes]:
        """Return the published frames of one class."""
        return [data for known, data in self.up if known is frame_class]


class AirLink:
    """Has the shape of `transport.link.MqttLink`."""

    def __init__(self, air: Air, will: bytes) -> None:
        self._air = air
        self.will = will
        self.inbox: asyncio.Queue[AirMessage | None] = asyncio.Queue()
        self._is_lost = False

    async def __aenter__(self) -> Self:
        self._air.attempts += 1
        if not self._air.is_up:
            raise LinkError("nobody answers", failure=LinkFailure.UNREACHABLE)
        self._air.link = self
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._air.link is self:
            self._air.link = None

    def lose(self) -> None:
        self._is_lost = True
        self.inbox.put_nowait(None)

    async def subscribe(self, *topic_filters: str) -> None:
        assert topic_filters == (f"ff/v1/{VEHICLE}/down/+",)
        self._require()

    async def publish(self, topic: str, payload: bytes) -> None:
        self._require()
        route = parse_topic(topic)
        assert route.vehicle_id == VEHICLE
        if route.frame_class in self._air.refused:
            raise PublishRefusedError(f"the broker refuses {topic}")
        self._air.up.append((route.frame_class, payload))
        await asyncio.sleep(0)
        if route.frame_class is self._air.held:
            await self._air.flows.wait()
        self._require()
        if self._air.fleet is not None and not self._air.is_deaf:
            self._air.fleet.take(route.frame_class, payload)

    async def messages(self) -> AsyncIterator[AirMessage]:
        while (message := await self.inbox.get()) is not None:
            yield message
        raise LinkError("the link was lost", failure=LinkFailure.LOST)

    def _require(self) -> None:
        if self._is_lost:
            raise LinkError("the link was lost", failure=LinkFailure.LOST)


@dataclass
class FleetEnd:
    """Verifies, keeps, receipts and commands; survives every power cut of the car."""

    air: Air
    clock: Clock
    gives_receipts: bool = True
    """Whether entries are receipted when they come."""
    credit: int = 64
    hellos: list[Hello] = field(default_factory=list)
    entries: dict[int, bytes] = field(default_factory=dict)
    """Frames by sequence."""
    older: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    """Frames of ledgers that were replaced, by ledger and sequence."""
    copies: dict[int, int] = field(default_factory=dict)
    """How often each entry came."""
    arrivals: list[int] = field(default_factory=list)
    """Sequences in the order of arrival, repetitions included."""
    answers: list[tuple[Result, bytes]] = field(default_factory=list)
    """Every result that came, stored or not, with its frame."""
    telemetry: list[Frame] = field(default_factory=list)
    places: list[tuple[EventPlace, int]] = field(default_factory=list)
    """Places in the order of their coming, each with the entries that came before."""
    deaths: list[Header] = field(default_factory=list)
    """Of every DEATH that came, by whomever it was published."""
    greetings: list[Header] = field(default_factory=list)
    """Of every HELLO that came."""
    session_id: bytes = b""
    car_key: VerifyKey = field(default_factory=lambda: VEHICLE_KEY.verify_key)
    """Signs what comes from the car outside of its ledger."""
    key_until: dict[int, VerifyKey] = field(default_factory=dict)
    """Keys that a rotation replaced, by the place of its entry."""
    _unreadable: list[tuple[FrameClass, bytes]] = field(default_factory=list)
    _lane_seqs: "itertools.count[int]" = field(
        default_factory=lambda: itertools.count(1)
    )
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def take(self, frame_class: FrameClass, data: bytes) -> None:
        """Take one frame of the car."""
        frame = parse_frame(data)
        assert frame.header.frame_class is frame_class
        key = self._key_of(frame.header)
        if frame.header.key_id != key.key_id and not self._is_outdated(frame.header):
            # The entry that names its key is on its way.
            self._unreadable.append((frame_class, data))
            return
        verify_frame(frame, fleet_id=FLEET_ID, key=key)
        content = parse_content(frame)
        if isinstance(content.body, Hello):
            self._begin_ledger(content.body.ledger_id)
            self.hellos.append(content.body)
            self.greetings.append(frame.header)
            self.session_id = frame.header.session_id
        elif isinstance(content.body, EventPlace):
            self.places.append((content.body, len(self.arrivals)))
        elif frame_class is FrameClass.DEATH:
            self.deaths.append(frame.header)
        elif frame_class is FrameClass.TELEM:
            self.telemetry.append(frame)
        if isinstance(content.body, Result):
            self.answers.append((content.body, data))
        if frame_class in {FrameClass.EVENT, FrameClass.RESULT} and frame.header.seq:
            self._keep(frame.header.seq, data)
        if isinstance(content.body, KeyRotated):
            self._rotate(frame, content.body)
        if self.gives_receipts and frame_class not in {
            FrameClass.TELEM,
            FrameClass.DEATH,
        }:
            self.give_receipt()

    def _begin_ledger(self, ledger_id: bytes) -> None:
        """Lay what is known of a replaced ledger aside."""
        if self.hellos and ledger_id != self.ledger_id:
            self.older[self.ledger_id] = self.entries
            self.entries = {}
            self.copies.clear()
            self.arrivals.clear()

    def _key_of(self, header: Header) -> VerifyKey:
        """Return the key that must have signed: by the place of an entry, else now's.

        A frame of no ledger may have been signed just before a rotation.
        """
        is_entry = header.frame_class in {FrameClass.EVENT, FrameClass.RESULT}
        for last, key in sorted(self.key_until.items()):
            if (is_entry and 0 < header.seq <= last) or (
                not (is_entry and header.seq) and header.key_id == key.key_id
            ):
                return key
        return self.car_key

    def _is_outdated(self, header: Header) -> bool:
        """Return whether a place in the ledger says that another key must sign."""
        known = {key.key_id for key in self.key_until.values()}
        return header.key_id in known

    def _rotate(self, frame: Frame, rotated: KeyRotated) -> None:
        """Take the car's new key (FF-ENR-12, FF-ENR-14)."""
        if frame.header.seq in self.key_until:
            return
        link, _ = split_entry(frame.payload)
        new = verify_rotation(
            rotated,
            fleet_id=FLEET_ID,
            vehicle_id=VEHICLE,
            old_key=self.car_key,
            ledger_id=link.ledger_id,
            seq=frame.header.seq,
        )
        self.key_until[frame.header.seq] = self.car_key
        self.car_key = new
        waiting, self._unreadable = self._unreadable, []
        for frame_class, data in waiting:
            self.take(frame_class, data)

    def _keep(self, seq: int, data: bytes) -> None:
        link, _ = split_entry(parse_frame(data).payload)
        if link.ledger_id in self.older:
            kept = self.older[link.ledger_id].setdefault(seq, data)
            assert kept == data, f"fork: entry {seq} came with two contents"
            return
        kept = self.entries.setdefault(seq, data)
        assert kept == data, f"fork: entry {seq} came with two contents"
        self.copies[seq] = self.copies.get(seq, 0) + 1
        self.arrivals.append(seq)

    # -- receipts ---------------------------------------------------------------------

    @property
    def ledger_id(self) -> bytes:
        return self.hellos[-1].ledger_id

    @property
    def contiguous(self) -> int:
        """The last entry before the first gap."""
        return next(n for n in itertools.count(1) if n not in self.entries) - 1

    def give_receipt(self) -> None:
        """Receipt all that is contiguous."""
        self.air.deliver(FrameClass.RECEIPT, self.receipt())

    def receipt(
        self,
        *,
        upto: int | None = None,
        head_hash: bytes | None = None,
        ledger_id: bytes | None = None,
        key: SigningKey = RECEIPT_KEY,
        gaps: tuple[Gap, ...] = (),
        rejects: tuple[Reject, ...] = (),
    ) -> bytes:
        """Build a receipt; what is not given is true."""
        upto = self.contiguous if upto is None else upto
        if head_hash is None:
            head_hash = entry_hash(self.entries[upto]) if upto else GENESIS
        payload = RECEIPT.build(
            Receipt(
                ledger_id=self.ledger_id if ledger_id is None else ledger_id,
                upto=upto,
                head_hash=head_hash,
                credit=self.credit,
                gaps=gaps,
                rejects=rejects,
            )
        )
        header = self._header(FrameClass.RECEIPT, FrameType.RECEIPT, key)
        return sign_frame(header, payload, fleet_id=FLEET_ID, key=key)

    # -- commands ---------------------------------------------------------------------

    def command(
        self, command: Command, *, ttl_ms: int = 5_000, key: SigningKey = COMMAND_KEY
    ) -> bytes:
        """Sign a command for the session of the newest HELLO."""
        opcode = OPCODE_OF[type(command)]
        header = self._header(
            FrameClass.CMD,
            opcode,
            key,
            lane=COMMANDS[opcode].lane,
            seq=next(self._lane_seqs),
            mono_ms=self.clock.now().boot_ms + ttl_ms,
            schema=COMMAND_SCHEMA,
        )
        return sign_frame(header, build_command(command), fleet_id=FLEET_ID, key=key)

    def send(self, command: Command, *, ttl_ms: int = 5_000) -> bytes:
        """Send a command and return its frame."""
        data = self.command(command, ttl_ms=ttl_ms)
        self.air.deliver(FrameClass.CMD, data)
        return data

    def sync(
        self,
        body: SyncBody,
        *,
        ttl_ms: int = 5_000,
        key: SigningKey = COMMAND_KEY,
        wall_ms: int | None = None,
    ) -> bytes:
        """Sign a SYNC frame for the session of the newest HELLO."""
        header = self._header(
            FrameClass.SYNC,
            SYNC_TYPE_OF[type(body)],
            key,
            seq=next(self._lane_seqs),
            mono_ms=self.clock.now().boot_ms + ttl_ms,
            wall_ms=wall_ms,
        )
        return sign_frame(header, build_sync(body), fleet_id=FLEET_ID, key=key)

    def ask(self, body: SyncBody) -> bytes:
        """Send a SYNC frame and return it."""
        data = self.sync(body)
        self.air.deliver(FrameClass.SYNC, data)
        return data

    def trust(
        self,
        bundle: TrustBundle,
        *,
        key: SigningKey = COMMAND_KEY,
        roots: tuple[SigningKey, ...] = (ROOT_KEY,),
    ) -> bytes:
        """Sign a bundle and the frame that carries it."""
        header = self._header(FrameClass.TRUST, FrameType.TRUST, key)
        signed = sign_bundle(bundle, roots)
        return sign_frame(header, signed, fleet_id=FLEET_ID, key=key)

    def publish_trust(
        self, bundle: TrustBundle, *, key: SigningKey = COMMAND_KEY
    ) -> bytes:
        """Send a bundle of the roots and return its frame."""
        data = self.trust(bundle, key=key)
        self.air.deliver(FrameClass.TRUST, data)
        return data

    def results_of(self, data: bytes) -> list[Result]:
        """Return every answer to one command frame."""
        msg_id = parse_frame(data).header.msg_id
        return [result for result, _ in self.answers if result.request_id == msg_id]

    def codes_of(self, data: bytes) -> list[Code]:
        """Return the codes of every answer to one command frame."""
        return [result.code for result in self.results_of(data)]

    def events(self) -> list[EventBody]:
        """Return the events that have come, in the order of the ledger."""
        found: list[EventBody] = []
        for _, data in sorted(self.entries.items()):
            body = parse_content(parse_frame(data)).body
            if parse_frame(data).header.frame_class is FrameClass.EVENT:
                found.append(body)  # type: ignore[arg-type] # as the class says
        return found

    def head(self) -> LedgerHead:
        """Return the newest contiguous entry."""
        upto = self.contiguous
        return LedgerHead(self.ledger_id, upto, entry_hash(self.entries[upto]))

    def _header(
        self,
        frame_class: FrameClass,
        frame_type: int,
        key: SigningKey,
        *,
        lane: int = 0,
        seq: int = 0,
        mono_ms: int = 0,
        schema: int = 1,
        wall_ms: int | None = None,
    ) -> Header:
        return Header(
            suite=key.suite,
            frame_class=frame_class,
            flags=0,
            type=frame_type,
            schema=schema,
            lane=lane,
            vehicle_id=VEHICLE,
            key_id=key.key_id,
            session_id=self.session_id or bytes(16),
            seq=seq,
            mono_ms=mono_ms,
            wall_ms=self.clock.now().wall_ms if wall_ms is None else wall_ms,
            msg_id=b"command-" + next(self._ids).to_bytes(8, "big"),
        )
